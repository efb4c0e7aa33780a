//! The vectors of bins, each made once though the halos of several blocks hold it.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Vectors of some bins in one pass over the slide.
#[derive(Default)]
pub(in crate::predict) struct EncodedBins {
    pass: usize,
    /// The bins, ascending, with their rows in `vectors`.
    rows: Vec<(u32, u32)>,
    /// `[N,D]` on the device; none where there is no bin.
    vectors: Option<Tensor<2>>,
}

impl EncodedBins {
    /// The pass over the slide that the vectors are of.
    pub(in crate::predict) fn pass(&self) -> usize {
        self.pass
    }

    /// Whether a bin is among them.
    pub(in crate::predict) fn contains(&self, bin: u32) -> bool {
        self.row(bin).is_some()
    }

    fn row(&self, bin: u32) -> Option<u32> {
        let at = self.rows.binary_search_by_key(&bin, |&(bin, _)| bin).ok()?;
        self.rows.get(at).map(|&(_, row)| row)
    }

    /// Those of `bins` that are not among them, or that are of another pass.
    pub(super) fn missing(&self, pass: usize, bins: &[u32]) -> Vec<u32> {
        bins.iter().copied().filter(|&bin| pass != self.pass || !self.contains(bin)).collect()
    }

    /// These and `bins`, which are not among them, with the chunks of their vectors; `bins` alone where these are of
    /// another pass.
    pub(super) fn with(&self, pass: usize, bins: &[u32], chunks: &[Tensor<2>]) -> Self {
        let (mut rows, mut vectors) = (Vec::new(), Vec::new());
        if pass == self.pass {
            rows.clone_from(&self.rows);
            vectors.extend(self.vectors.clone());
        }
        let first = rows.len() as u32;
        rows.extend(bins.iter().copied().zip(first..));
        rows.sort_unstable();
        vectors.extend_from_slice(chunks);
        Self { pass, rows, vectors: (!vectors.is_empty()).then(|| Tensor::cat(vectors, 0)) }
    }

    /// The vectors of `bins`, in their order; none where there is no bin or one that is not among them.
    ///
    /// # Shapes
    /// - output: `[N,D]`
    pub(super) fn select(&self, bins: &[u32], device: &Device) -> Option<Tensor<2>> {
        let rows: Vec<u32> = bins.iter().map(|&bin| self.row(bin)).collect::<Option<_>>()?;
        let vectors = self.vectors.clone().filter(|_| !rows.is_empty())?;
        if rows.iter().copied().eq(0..vectors.dims()[0] as u32) {
            return Some(vectors);
        }
        let count = rows.len();
        Some(vectors.select(0, Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), device)))
    }

    /// Those that `keep` wants.
    pub(super) fn keep(&self, keep: impl Fn(u32) -> bool, device: &Device) -> Self {
        let bins: Vec<u32> = self.rows.iter().map(|&(bin, _)| bin).filter(|&bin| keep(bin)).collect();
        let vectors = self.select(&bins, device);
        Self { pass: self.pass, rows: bins.into_iter().zip(0..).collect(), vectors }
    }
}
