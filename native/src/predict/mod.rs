//! Slide and bundle to map files.

mod positions;
