//! The demo: synthetic tissue to report in minutes.
