//! JSON Schemas of what bellpull sends, for receivers: types in their language, validation in their tests.
//!
//! This is the list of them. It validates nothing; what a body holds is decided in `event`.

/// A schema that is printed by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Schema {
    /// What a receiver gets
    Event,
}

impl Schema {
    /// JSON, draft 2020-12.
    pub fn text(self) -> &'static str {
        match self {
            Self::Event => include_str!("schema/event.json"),
        }
    }
}
