//! Parts that every tab draws with.

pub mod gauge;
pub mod input;
pub mod popup;
pub mod table;
