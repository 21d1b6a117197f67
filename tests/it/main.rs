//! One binary for all integration tests.

mod support {
    pub mod daemon;
    pub mod receiver;
    pub mod rig;
    pub mod server;
    pub mod upstream;
}

mod cli;
mod config;
mod footprint;
mod layers;
mod readme;
mod ledger;
mod poll;
mod store;
