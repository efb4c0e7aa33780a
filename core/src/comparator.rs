//! Predictors that MagNet is compared with.
