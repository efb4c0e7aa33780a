//! Training bins that a model keeps beside its weights, to look up what was measured where tissue looked alike.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::expression::Matrix;
use crate::model::{MagNetConfig, TrainingSetError};

/// `M` training bins, each with a key by which it is found and its labels. They are stored with the weights and never
/// trained.
#[derive(Module, Debug)]
pub(super) struct References {
    /// `[M,F]`
    keys: Param<Tensor<2>>,
    /// `[M,G]`
    labels: Param<Tensor<2>>,
}

impl References {
    /// Room for `comparator.references` bins with keys of width `width`, all zero.
    pub(super) fn new(config: &MagNetConfig, width: usize, device: &Device) -> Self {
        // Lazy, so that loading a file replaces the zeros without making them.
        let zeros = |columns| {
            let shape = [config.comparator.references, columns];
            Initializer::Zeros.init::<2, _>(shape, device).set_require_grad(false)
        };
        Self { keys: zeros(width), labels: zeros(config.genes) }
    }

    /// The same with other bins, as many as there is room for.
    ///
    /// # Shapes
    /// - `keys`: `[M,F]`
    /// - `labels`: `[M,G]`
    ///
    /// # Errors
    /// Another number of bins, or a device that fails.
    pub(super) fn with(self, keys: &Tensor<2>, labels: &Tensor<2>) -> Result<Self, TrainingSetError> {
        let [expected, _] = self.keys.lazy_shape().dims();
        let [found, _] = keys.dims();
        if found != expected {
            let found = format!("expected comparator.references = {expected} bins, found {found}");
            return Err(TrainingSetError(found));
        }
        Ok(Self { keys: replaced(self.keys, keys)?, labels: replaced(self.labels, labels)? })
    }

    /// How near each reference is to each query: larger is nearer in Euclidean distance, which among vectors of length 1
    /// is also the order of cosine similarity.
    ///
    /// # Shapes
    /// - `queries`: `[N,F]`
    /// - output: `[N,M]`
    pub(super) fn nearness(&self, queries: Tensor<2>) -> Tensor<2> {
        let keys = self.keys.val();
        // ‖q − k‖² = ‖q‖² − 2 (q·k − ‖k‖² / 2), and ‖q‖² does not change the order.
        let half_norms = keys.clone().square().sum_dim(1) / 2.0; // [M,1]
        queries.matmul(keys.transpose()) - half_norms.transpose()
    }

    /// The rows of the `count` greatest of each row of `nearness`, or of all where there are fewer references.
    ///
    /// # Shapes
    /// - `nearness`: `[N,M]`
    /// - output: `[N,K]`
    pub(super) fn greatest(nearness: Tensor<2>, count: usize) -> Tensor<2, Int> {
        let [_, references] = nearness.dims();
        // Not `argtopk`, which refuses as many as there are.
        nearness.topk_with_indices(count.min(references), 1).1
    }

    /// Keys of references.
    ///
    /// # Shapes
    /// - `rows`: `[N,K]`
    /// - output: `[N,K,F]`
    pub(super) fn keys(&self, rows: Tensor<2, Int>) -> Tensor<3> {
        picked(self.keys.val(), rows)
    }

    /// Labels of references.
    ///
    /// # Shapes
    /// - `rows`: `[N,K]`
    /// - output: `[N,K,G]`
    pub(super) fn labels(&self, rows: Tensor<2, Int>) -> Tensor<3> {
        picked(self.labels.val(), rows)
    }
}

/// # Shapes
/// - `table`: `[M,C]`
/// - `rows`: `[N,K]`
/// - output: `[N,K,C]`
fn picked(table: Tensor<2>, rows: Tensor<2, Int>) -> Tensor<3> {
    let [n, k] = rows.dims();
    let [_, columns] = table.dims();
    table.select(0, rows.reshape([n * k])).reshape([n, k, columns]) // [N,K,C]
}

/// A parameter with other values, on its own device: what it is filled from may live on another, or track gradients.
fn replaced(param: Param<Tensor<2>>, values: &Tensor<2>) -> Result<Param<Tensor<2>>, TrainingSetError> {
    let Matrix { rows, cols, values } = host_matrix(values)?;
    let data = TensorData::new(values, [rows, cols]);
    Ok(param.map(|old| Tensor::from_data(data, &old.device())))
}

/// A tensor read from its device.
///
/// # Errors
/// If the device fails.
pub(super) fn host_matrix(tensor: &Tensor<2>) -> Result<Matrix, TrainingSetError> {
    let [rows, cols] = tensor.dims();
    let values = tensor.clone().try_into_vec_as::<f32>();
    values.map(|values| Matrix { rows, cols, values }).map_err(|error| TrainingSetError(format!("{error:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ComparatorConfig;
    use crate::model::testing::{assert_values, matrix, values};

    fn three() -> References {
        let device = Device::flex();
        let config = MagNetConfig {
            genes: 1,
            comparator: ComparatorConfig { references: 3, ..ComparatorConfig::default() },
            ..MagNetConfig::default()
        };
        let keys = matrix(&[&[0.0, 0.0], &[10.0, 0.0], &[1.0, 1.0]], &device);
        let labels = matrix(&[&[0.5], &[1.5], &[2.5]], &device);
        References::new(&config, 2, &device).with(&keys, &labels).unwrap()
    }

    #[test]
    fn the_nearest_by_distance_come_first_whatever_their_length() {
        let queries = matrix(&[&[0.9, 0.8], &[6.0, 0.0]], &Device::flex());
        let references = three();
        let rows = References::greatest(references.nearness(queries), 2);
        assert_eq!(rows.to_data().iter::<i64>().collect::<Vec<_>>(), [2, 0, 1, 2]);
        assert_values(&values(&references.labels(rows.clone())), &[2.5, 0.5, 1.5, 2.5], 0.0);
        assert_values(&values(&references.keys(rows)), &[1.0, 1.0, 0.0, 0.0, 10.0, 0.0, 1.0, 1.0], 0.0);
    }

    #[test]
    fn more_neighbours_than_references_are_all_references() {
        let references = three();
        let queries = matrix(&[&[0.9, 0.8]], &Device::flex());
        assert_eq!(References::greatest(references.nearness(queries), 50).dims(), [1, 3]);
    }

    #[test]
    fn another_number_of_bins_than_there_is_room_for_is_refused() {
        let device = Device::flex();
        let four = matrix(&[&[0.0, 0.0], &[0.0, 0.0], &[0.0, 0.0], &[0.0, 0.0]], &device);
        let labels = matrix(&[&[0.0], &[0.0], &[0.0], &[0.0]], &device);
        let error = three().with(&four, &labels).unwrap_err().to_string();
        assert!(error.contains("expected comparator.references = 3 bins, found 4"), "{error}");
    }
}
