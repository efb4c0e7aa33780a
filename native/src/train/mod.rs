//! The training loop.

pub mod ema;
pub mod optimizer;
pub mod schedule;
