//! Features of frozen encoders and of files, cached on disk.
