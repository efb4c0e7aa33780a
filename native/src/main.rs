//! The `magnet-native` program.
fn main() {}
