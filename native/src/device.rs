//! The one place that chooses a device.
