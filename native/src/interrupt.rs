//! Ctrl-C: the step at hand is finished, what is done is saved, and the program stops; a second Ctrl-C stops at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::exit;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C (and SIGTERM) for the rest of the process. Where the system does not let it, Ctrl-C ends the
/// program as it always did.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = ctrlc::set_handler(|| {
            if REQUESTED.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(exit::INTERRUPTED));
            }
        });
    });
}

/// Whether the user asked to stop.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
