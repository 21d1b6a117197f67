//! bellpull polls APIs that have no webhooks and sends signed webhooks for what changed.
//!
//! The modules stand in the order of a change's way, from the file to the receiver; an import points to a module
//! further up in this list only.

// The ground.
pub mod clock;
pub mod expr;
pub mod model;
pub mod settings;
// What a bridge is made of.
pub mod config;
pub mod decode;
pub mod extract;
pub mod guard;
pub mod http;
pub mod schedule;
pub mod sign;
pub mod source;
// A change's way.
pub mod deliver;
pub mod diff;
pub mod event;
pub mod mark;
pub mod poller;
pub mod store;
// Around it.
pub mod admin;
pub mod cli;
pub mod daemon;
pub mod demo;
pub mod notify;
pub mod receiver;
pub mod telemetry;
