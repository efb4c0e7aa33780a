//! Values to colours, legends and scale bars.
