//! Whole generations of a training run's state, written atomically.
