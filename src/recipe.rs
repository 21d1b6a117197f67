//! Ready-made bridges and endpoints for known systems. A recipe is a whole `bridges.toml`, in `src/recipes/`, that its user
//! edits: a source polls its system and sends to an endpoint of the user's, a sink sends what an example polls to its system.
//!
//! This is the list and the search by name. It reads no file and decides nothing about a configuration.

use crate::settings::nearest;

/// One recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    pub name: &'static str,
    pub kind: Kind,
    /// TOML, as it is printed.
    pub text: &'static str,
}

/// At which end of bellpull its system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is polled.
    Source,
    /// It is sent to.
    Sink,
}

macro_rules! recipes {
    ($($name:literal $kind:ident),* $(,)?) => {
        &[$(Recipe { name: $name, kind: Kind::$kind, text: include_str!(concat!("recipes/", $name, ".toml")) }),*]
    };
}

/// By name.
const ALL: &[Recipe] = recipes![
    "amadeus" Source,
    "datadog" Source,
    "discord" Source,
    "discord-webhook" Sink,
    "github" Source,
    "github-dispatch" Sink,
    "github-issue" Sink,
    "google-maps" Source,
    "home-assistant" Sink,
    "instagram" Source,
    "n8n" Sink,
    "node-red" Sink,
    "ntfy" Sink,
    "openai" Source,
    "pagerduty" Sink,
    "paypal" Source,
    "sabre" Source,
    "shopify" Source,
    "shopify-graphql" Source,
    "slack" Source,
    "slack-message" Sink,
    "slack-webhook" Sink,
    "soap-bank" Source,
    "stability" Source,
    "stripe" Source,
    "supertokens" Source,
    "teams" Sink,
    "telegram" Sink,
    "travelport" Source,
    "trello" Source,
    "trello-card" Sink,
    "twilio" Source,
    "twilio-sms" Sink,
    "weather" Source,
    "x" Source,
    "zapier" Sink,
];

impl Recipe {
    /// What it is for, in one line: the text's first comment.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches('#').trim()
    }
}

/// Every recipe, by name.
pub fn all() -> &'static [Recipe] {
    ALL
}

/// The recipe of this name.
pub fn find(name: &str) -> Option<&'static Recipe> {
    ALL.iter().find(|recipe| recipe.name == name)
}

/// The name that was probably meant.
pub fn suggest(name: &str) -> Option<&'static str> {
    nearest(name, ALL.iter().map(|recipe| recipe.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_order_and_are_found() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
        assert!(ALL.iter().any(|recipe| recipe.kind == Kind::Sink));
        for recipe in ALL {
            assert_eq!(find(recipe.name), Some(recipe));
        }
        assert_eq!(find("strip"), None);
        assert_eq!(suggest("strip"), Some("stripe"));
        assert_eq!(suggest("git-hub"), Some("github"));
        assert_eq!(suggest("zzz"), None);
    }
}
