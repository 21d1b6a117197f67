//! JSON Schemas: of what bellpull sends, for receivers (types in their language, validation in their tests), and of what it
//! reads, for editors.
//!
//! This is the list of them. It validates nothing: what a body holds is decided in `event`, and what a file may hold by the
//! parts that read it, whose declarations the schema of the file is made of.

mod config;
pub mod reference;

use std::borrow::Cow;

/// A schema that is printed by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Schema {
    /// What a receiver gets
    Event,
    /// What bridges.toml may hold
    Config,
}

impl Schema {
    /// JSON. For receivers draft 2020-12; for editors draft 7, which those of TOML know.
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Self::Event => include_str!("schema/event.json").into(),
            Self::Config => config::text().into(),
        }
    }
}
