//! What identifies a file.

use sha2::{Digest, Sha256};

/// SHA-256, lower-case hexadecimal.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
