//! The image side of a slide.
