//! The hybrid loss.
