//! The vectors of bins, each made once though the halos of several blocks hold it.

use burn::tensor::{Device, Tensor};

use crate::batch::index_tensor;

/// Vectors of some bins in one pass over the slide.
#[derive(Default)]
pub(in crate::predict) struct EncodedBins {
    pass: usize,
    /// The bins in the order of `vectors`.
    bins: Vec<u32>,
    /// Of every bin up to the last of them, its row counted from 1; 0 for those that are not among them.
    rows: Vec<u32>,
    /// `[N,D]` on the device; none where there is no bin.
    vectors: Option<Tensor<2>>,
}

impl EncodedBins {
    fn new(pass: usize, bins: Vec<u32>, vectors: Option<Tensor<2>>) -> Self {
        let mut rows = vec![0; bins.iter().max().map_or(0, |&last| last as usize + 1)];
        for (&bin, row) in bins.iter().zip(1..) {
            if let Some(place) = rows.get_mut(bin as usize) {
                *place = row;
            }
        }
        Self { pass, bins, rows, vectors }
    }

    /// The pass over the slide that the vectors are of.
    pub(in crate::predict) fn pass(&self) -> usize {
        self.pass
    }

    /// Whether a bin is among them.
    pub(in crate::predict) fn contains(&self, bin: u32) -> bool {
        self.row(bin).is_some()
    }

    fn row(&self, bin: u32) -> Option<u32> {
        self.rows.get(bin as usize)?.checked_sub(1)
    }

    /// Those of `bins` that are not among them, or that are of another pass.
    pub(super) fn missing(&self, pass: usize, bins: &[u32]) -> Vec<u32> {
        bins.iter().copied().filter(|&bin| pass != self.pass || !self.contains(bin)).collect()
    }

    /// These and `bins`, which are not among them, with the chunks of their vectors; `bins` alone where these are of
    /// another pass.
    pub(super) fn with(&self, pass: usize, bins: &[u32], chunks: &[Tensor<2>]) -> Self {
        let (mut all, mut vectors) = (Vec::new(), Vec::new());
        if pass == self.pass {
            all.extend_from_slice(&self.bins);
            vectors.extend(self.vectors.clone());
        }
        all.extend_from_slice(bins);
        vectors.extend_from_slice(chunks);
        Self::new(pass, all, (!vectors.is_empty()).then(|| Tensor::cat(vectors, 0)))
    }

    /// The vectors of `bins`, in their order; none where there is no bin or one that is not among them.
    ///
    /// # Shapes
    /// - output: `[N,D]`
    pub(super) fn select(&self, bins: &[u32], device: &Device) -> Option<Tensor<2>> {
        let vectors = self.vectors.clone().filter(|_| !bins.is_empty())?;
        if bins == self.bins {
            return Some(vectors);
        }
        let rows: Vec<u32> = bins.iter().map(|&bin| self.row(bin)).collect::<Option<_>>()?;
        Some(vectors.select(0, index_tensor(&rows, device)))
    }

    /// Those that `keep` wants.
    pub(super) fn keep(&self, keep: impl Fn(u32) -> bool, device: &Device) -> Self {
        let bins: Vec<u32> = self.bins.iter().copied().filter(|&bin| keep(bin)).collect();
        let vectors = self.select(&bins, device);
        Self::new(self.pass, bins, vectors)
    }
}
