//! bellpull polls APIs that have no webhooks and sends signed webhooks for what changed.
//!
//! The modules stand in the order of a change's way, from the file to the receiver; an import points to a module
//! further up in this list only.

pub mod model;
pub mod clock;
pub mod expr;
pub mod settings;
pub mod schedule;
