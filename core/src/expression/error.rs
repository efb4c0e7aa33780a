//! What can be wrong with counts and labels.

use thiserror::Error;

use crate::gene_panel::GenePanelError;

/// What is wrong with counts or labels.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ExpressionError {
    /// A stored number that is no count.
    #[error(
        "counts: row {row}, column {column} holds {value}; counts must be raw: finite, not negative and whole \
         (a matrix that was normalised before cannot be used)"
    )]
    NotACount {
        /// Observation.
        row: usize,
        /// Gene column.
        column: usize,
        /// What stands there.
        value: f32,
    },
    /// A column beyond the genes.
    #[error("counts: row {row} names column {column}; expected a column below {genes}")]
    Column {
        /// Observation.
        row: usize,
        /// What it names.
        column: usize,
        /// Number of genes.
        genes: usize,
    },
    /// A column that is stored twice in a row.
    #[error("counts: row {row} holds column {column} more than once")]
    RepeatedColumn {
        /// Observation.
        row: usize,
        /// Gene column.
        column: usize,
    },
    /// Row offsets that do not cut the stored values into rows.
    #[error("counts: {field} is {found}, expected {expected}")]
    Offsets {
        /// Which part of the compressed form.
        field: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// Columns that are asked for and not there, or asked for twice.
    #[error("gene columns: column {column} is asked for; expected distinct columns below {genes}")]
    Selection {
        /// The column.
        column: u32,
        /// Number of genes.
        genes: usize,
    },
    /// Parents that do not fit the rows or the groups.
    #[error("aggregation: {what} is {found}, expected {expected}")]
    Parents {
        /// Which number.
        what: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: usize,
    },
    /// A dense matrix whose values do not fill its rows and columns.
    #[error("matrix: {values} values for {rows} rows of {cols} columns")]
    Shape {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        cols: usize,
        /// Number of values.
        values: usize,
    },
    /// Matrices that should have the same genes.
    #[error("labels: slide {slide} has {found} genes, the first has {expected}")]
    Genes {
        /// Which slide.
        slide: usize,
        /// Genes of the first slide.
        expected: usize,
        /// Its genes.
        found: usize,
    },
    /// Nothing to compute a statistic from.
    #[error("labels: no observations in {slides} slides")]
    NoObservations {
        /// Number of slides.
        slides: usize,
    },
    /// Fewer genes than the panel wants.
    #[error("genes: {wanted} genes asked for, but only {common} are common to all {slides} slides")]
    TooFewGenes {
        /// Size of the panel asked for.
        wanted: usize,
        /// Genes in every slide.
        common: usize,
        /// Number of slides.
        slides: usize,
    },
    /// Counts whose columns do not match their genes.
    #[error("genes: slide {slide} has {columns} count columns but {genes} gene names")]
    GeneNames {
        /// Which slide.
        slide: usize,
        /// Columns of the counts.
        columns: usize,
        /// Names.
        genes: usize,
    },
    /// The chosen genes form no panel.
    #[error(transparent)]
    Panel(#[from] GenePanelError),
}
