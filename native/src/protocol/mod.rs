//! Protocols that compare models fairly: the same folds, the same slides held out, the same scores.

pub mod results;
