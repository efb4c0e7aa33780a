//! Synthetic H&E tissue whose expression follows a known program.
