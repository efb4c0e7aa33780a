//! All values as a Parquet table.

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use magnet_core::map::PredictedMap;
use parquet::basic::{Compression, LogicalType, Repetition, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

/// Rows of a row group, which are in memory at a time.
const GROUP_ROWS: usize = 50_000;
/// Columns before the genes.
const PLACE_COLUMNS: [&str; 6] = ["name", "x_px", "y_px", "x_um", "y_um", "level"];

/// Writes a row per place: its name, its centre in full-resolution pixels and in µm, its level, then a column per gene
/// (32-bit floating point, NaN where nothing was predicted). The file's metadata has the provenance under `magnet`.
///
/// # Errors
/// If the values cannot be read or the file cannot be written.
pub(super) fn write(map: &PredictedMap<'_>, out: impl Write + Send) -> Result<()> {
    let provenance = KeyValue::new("magnet".to_owned(), map.provenance()?.to_string());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        // Hardly two predictions are equal; names are not either.
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(vec![provenance]))
        .build();
    let mut writer = SerializedFileWriter::new(out, schema(map)?, Arc::new(properties))?;
    let (cols, level) = (map.values.cols(), map.level.to_string());
    let mut result = Ok(());
    map.values.for_each_block_of(GROUP_ROWS, |first, block| {
        let rows = first..first + block.len() / cols.max(1);
        result = write_group(map, &mut writer, rows, block, &level);
        match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(std::io::Error::other(error.to_string())),
        }
    })?;
    result?;
    writer.close()?;
    Ok(())
}

fn schema(map: &PredictedMap<'_>) -> Result<TypePtr> {
    let column = |name: &str, physical| {
        let text = (physical == PhysicalType::BYTE_ARRAY).then_some(LogicalType::String);
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        builder.with_logical_type(text).build().map(Arc::new)
    };
    let mut columns = Vec::new();
    for name in PLACE_COLUMNS {
        let text = matches!(name, "name" | "level");
        columns.push(column(name, if text { PhysicalType::BYTE_ARRAY } else { PhysicalType::DOUBLE })?);
    }
    for symbol in &map.bundle.metadata.panel.symbols {
        // No two columns may share a name.
        let name =
            if PLACE_COLUMNS.contains(&symbol.as_str()) { format!("{symbol}_gene") } else { symbol.clone() };
        columns.push(column(&name, PhysicalType::FLOAT)?);
    }
    Ok(Arc::new(Type::group_type_builder("schema").with_fields(columns).build()?))
}

fn write_group<W: Write + Send>(
    map: &PredictedMap<'_>,
    writer: &mut SerializedFileWriter<W>,
    rows: std::ops::Range<usize>,
    block: &[f32],
    level: &str,
) -> Result<()> {
    let mut group = writer.next_row_group()?;
    let names = map.names.get(rows.clone()).unwrap_or_default();
    let centers_px = map.centers_px.get(rows.clone()).unwrap_or_default();
    let centers_um = map.centers_um.get(rows.clone()).unwrap_or_default();
    let texts: Vec<ByteArray> = names.iter().map(|name| ByteArray::from(name.as_str())).collect();
    write_column::<ByteArrayType, W>(&mut group, &texts)?;
    let mut numbers = |values: Vec<f64>| write_column::<DoubleType, W>(&mut group, &values);
    numbers(centers_px.iter().map(|center| center.x).collect())?;
    numbers(centers_px.iter().map(|center| center.y).collect())?;
    numbers(centers_um.iter().map(|center| center.x).collect())?;
    numbers(centers_um.iter().map(|center| center.y).collect())?;
    write_column::<ByteArrayType, W>(&mut group, &vec![ByteArray::from(level); rows.len()])?;
    let cols = map.values.cols();
    for gene in 0..cols {
        let values: Vec<f32> = block.iter().skip(gene).step_by(cols).copied().collect();
        write_column::<FloatType, W>(&mut group, &values)?;
    }
    group.close()?;
    Ok(())
}

fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
) -> Result<()> {
    if let Some(mut column) = group.next_column()? {
        column.typed::<T>().write_batch(values, None, None)?;
        column.close()?;
    }
    Ok(())
}
