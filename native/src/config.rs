//! Run configuration: presets, TOML files and `--set key=value`.
