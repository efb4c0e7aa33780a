//! Slide and bundle to maps.
