//! What crosses crates is tested here: the command line, parity between devices, and hostile input.
