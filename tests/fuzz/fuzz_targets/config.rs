#![no_main]

use libfuzzer_sys::fuzz_target;
use magnet_fuzz::{panics_may_be_caught, readers};

fuzz_target!(init: panics_may_be_caught(), |bytes: &[u8]| readers::config(bytes));
