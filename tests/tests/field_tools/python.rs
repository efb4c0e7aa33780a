//! The interpreter of the pinned environment, and what a comparison over several files ends with.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter; `None` where there is none, which is said.
pub fn python() -> Option<PathBuf> {
    let named = std::env::var_os("MAGNET_PYTHON").map(PathBuf::from);
    if named.is_none() {
        eprintln!("skipped: MAGNET_PYTHON is not set (eval \"$(scripts/python-env)\" sets it)");
    }
    named
}

/// Runs a script of `tests/python`; it ends well or the test fails with what it said.
pub fn run_python(python: &Path, script: &str, arguments: &[&Path]) -> String {
    // From the package, where tests run.
    let output = Command::new(python).arg(Path::new("python").join(script)).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{script}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Fails with every file that was read otherwise than its writer reads it.
pub fn report(failures: &[(String, Vec<String>)], files: usize) {
    assert!(files > 0, "no files were compared");
    let wrong: Vec<String> = failures
        .iter()
        .filter(|(_, wrong)| !wrong.is_empty())
        .map(|(file, wrong)| format!("{file}: {}", wrong.join("; ")))
        .collect();
    assert!(wrong.is_empty(), "{} of {files} files:\n{}", wrong.len(), wrong.join("\n"));
}
