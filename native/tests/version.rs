//! An integration test of this package, so that cargo builds the binary wherever it builds the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::Command;

#[test]
fn the_binary_states_the_package_version() {
    let output = Command::new(env!("CARGO_BIN_EXE_magnet-native")).arg("--version").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim(), format!("magnet-native {}", env!("CARGO_PKG_VERSION")));
}
