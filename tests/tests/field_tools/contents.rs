//! What an AnnData object holds, as `tests/python/contents.py` describes it.

use std::collections::BTreeMap;

use magnet_core::anndata::{AnnData, Annotation, AxisTable, Column, Values};
use serde_json::{Value, json};

/// What an object holds, as `tests/python/contents.py` describes it.
pub fn contents_of(data: &AnnData) -> Value {
    let layers: BTreeMap<_, _> =
        data.layers.iter().map(|(name, values)| (name.clone(), matrix_of(values))).collect();
    json!({
        "sparse": matches!(data.x, Values::Sparse(_)),
        "x": matrix_of(&data.x),
        "layers": layers,
        "obs": table_of(&data.obs),
        "var": table_of(&data.var),
        "spatial": data.spatial.as_ref().map(|points| {
            exact(points.iter().flat_map(|point| [point.x, point.y]))
        }),
    })
}

/// Numbers as text; Rust prints as many digits as tell them apart.
pub fn exact(values: impl IntoIterator<Item = f64>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

pub fn matrix_of(values: &Values) -> Value {
    let dense = values.clone().into_dense();
    let values = exact(dense.values.iter().map(|&value| f64::from(value)));
    json!({ "rows": dense.rows, "cols": dense.cols, "values": values })
}

pub fn table_of(table: &AxisTable) -> Value {
    let column = |column: &Column| match column {
        Column::Texts(values) => json!({ "kind": "texts", "values": values }),
        Column::Numbers(values) => json!({ "kind": "numbers", "values": exact(values.iter().copied()) }),
        Column::Integers(values) => json!({ "kind": "integers", "values": values }),
        Column::Flags(values) => json!({ "kind": "flags", "values": values }),
        Column::Categorical { codes, categories } => {
            let text = |code: &Option<u32>| code.map(|code| &categories[code as usize]);
            let values: Vec<_> = codes.iter().map(text).collect();
            json!({ "kind": "categorical", "values": values, "categories": categories })
        }
    };
    let columns: BTreeMap<_, _> =
        table.columns.iter().map(|(name, values)| (name.clone(), column(values))).collect();
    json!({ "names": table.names, "columns": columns })
}

/// `uns` as Python sees it.
pub fn annotation_of(annotation: &Annotation) -> Value {
    match annotation {
        Annotation::Text(text) => json!(text),
        Annotation::Number(number) => json!(number.to_string()),
        Annotation::Integer(integer) => json!(integer),
        Annotation::Flag(flag) => json!(flag),
        Annotation::Texts(texts) => json!(texts),
        Annotation::Numbers(numbers) => json!(exact(numbers.iter().copied())),
        Annotation::Image(image) => {
            let rows: Vec<Vec<&[u8]>> =
                image.pixels.chunks(image.width * 3).map(|row| row.chunks(3).collect()).collect();
            json!(rows)
        }
        Annotation::Group(children) => group_of(children),
    }
}

pub fn group_of(children: &BTreeMap<String, Annotation>) -> Value {
    Value::Object(children.iter().map(|(key, value)| (key.clone(), annotation_of(value))).collect())
}
