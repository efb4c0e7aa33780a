//! Slide and bundle to map files.
