//! bellpull polls APIs that have no webhooks and sends signed webhooks for what changed.
//!
//! The modules stand in the order of a change's way, from the file to the receiver; an import points to a module
//! further up in this list only (`tests/it/layers.rs`).

// The ground.
pub mod model;
pub mod clock;
pub mod compute;
pub mod terminal;
pub mod expr;
pub mod settings;
pub mod failpoint;
pub mod telemetry;
pub mod pulse;
// What a bridge is made of.
pub mod schedule;
pub mod http;
pub mod decode;
pub mod auth;
pub mod source;
pub mod extract;
pub mod guess;
pub mod guard;
pub mod sign;
pub mod config;
// A change's way.
pub mod diff;
pub mod mark;
pub mod shape;
pub mod event;
pub mod store;
pub mod deliver;
pub mod poller;
// Around it.
pub mod notify;
pub mod admin;
pub mod daemon;
pub mod receiver;
pub mod demo;
pub mod recipe;
pub mod schema;
pub mod cli;
