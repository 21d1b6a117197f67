//! Ready-made bridges for known systems. A recipe is a whole `bridges.toml`, in `src/recipes/`, that its user edits.
//!
//! This is the list and the search by name. It reads no file and decides nothing about a configuration.

use crate::settings::nearest;

/// One recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    pub name: &'static str,
    /// TOML, as it is printed.
    pub text: &'static str,
}

macro_rules! recipes {
    ($($name:literal),* $(,)?) => {
        &[$(Recipe { name: $name, text: include_str!(concat!("recipes/", $name, ".toml")) }),*]
    };
}

/// By name.
const ALL: &[Recipe] = recipes![
    "amadeus",
    "datadog",
    "discord",
    "github",
    "google-maps",
    "instagram",
    "openai",
    "paypal",
    "sabre",
    "shopify",
    "shopify-graphql",
    "slack",
    "soap-bank",
    "stability",
    "stripe",
    "supertokens",
    "travelport",
    "trello",
    "twilio",
    "weather",
    "x",
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
        for recipe in ALL {
            assert_eq!(find(recipe.name), Some(recipe));
        }
        assert_eq!(find("strip"), None);
        assert_eq!(suggest("strip"), Some("stripe"));
        assert_eq!(suggest("git-hub"), Some("github"));
        assert_eq!(suggest("zzz"), None);
    }
}
