//! Held-out scores.
