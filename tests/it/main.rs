//! One binary for all integration tests.

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that panics has found something, and the helpers of tests are tests"
)]

mod support {
    pub mod contract;
    pub mod daemon;
    pub mod receiver;
    pub mod recorder;
    pub mod rig;
    pub mod server;
    pub mod soap;
    pub mod stopped;
    pub mod tls;
    pub mod upstream;
}

mod cli;
mod web;
mod backup;
mod reload;
mod service;
mod log;
#[cfg(feature = "otlp")]
mod otlp;
mod dst;
mod config;
mod definitions;
mod faults;
mod fleet;
mod footprint;
mod kubernetes;
mod layers;
mod documents;
mod ledger;
mod poll;
mod manners;
mod graphql;
mod websocket;
mod conversation;
mod sse;
mod command;
mod fan;
mod first_hour;
mod grpc;
mod silence;
mod soap;
mod auth;
mod renewal;
mod recipe;
mod reference;
mod schema;
mod schema_config;
mod listen;
mod manual;
mod marks;
mod monitoring;
mod vendors;
mod sinks;
mod bad_input;
mod decode;
mod canary;
mod deliver;
mod receivers;
mod expressions;
mod jq_suite;
mod shapes;
mod states;
mod health;
mod hold;
mod schedule_run;
mod unchanged;
mod store;
