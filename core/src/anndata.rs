//! AnnData (.h5ad) files, read from and written to bytes.
