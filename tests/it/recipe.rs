//! The recipes: each is a whole configuration, without an error and without a warning. What their requests look like is
//! tested in `vendors.rs` for sources, in `sinks.rs` for sinks.

use std::collections::BTreeSet;

use bellpull::{
    config::{self, Config, Secrets},
    recipe::{self, Kind, Recipe},
};

/// PagerDuty is told who sends by a key in the body, where no loader sees it.
const UNSIGNED: &str = "[endpoint.pagerduty] has no `sign`";

fn files() -> BTreeSet<String> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/recipes");
    std::fs::read_dir(dir)
        .expect("the directory is there")
        .map(|entry| entry.expect("readable").path())
        .map(|path| path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned())
        .collect()
}

#[test]
fn every_file_is_in_the_list() {
    let listed: BTreeSet<String> = recipe::all().iter().map(|recipe| recipe.name.to_owned()).collect();
    assert_eq!(listed, files());
}

fn load(recipe: &Recipe) -> Config {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("bridges.toml");
    std::fs::write(&path, recipe.text).expect("written");
    config::load(&path, Secrets::FormOnly).unwrap_or_else(|failed| panic!("{}: {failed}", recipe.name))
}

#[test]
fn every_recipe_loads_without_a_warning() {
    for recipe in recipe::all() {
        let config = load(recipe);
        let warnings: Vec<&str> = config.warnings.iter().map(|warning| warning.message.as_str()).collect();
        let expected = usize::from(recipe.name == "pagerduty");
        assert_eq!(warnings.len(), expected, "{}: {warnings:?}", recipe.name);
        assert!(warnings.iter().all(|warning| warning.starts_with(UNSIGNED)), "{warnings:?}");
        assert!(!config.bridges.is_empty(), "{} has no bridge", recipe.name);
    }
}

#[test]
fn a_source_sends_to_me() {
    for recipe in recipe::all().iter().filter(|recipe| recipe.kind == Kind::Source) {
        let config = load(recipe);
        assert_eq!(config.endpoints.keys().map(|name| &**name).collect::<Vec<_>>(), ["me"], "{}", recipe.name);
        assert!(recipe.text.contains(&receiver(recipe)), "{}", recipe.name);
    }
}

/// One bridge, and an endpoint of the system. What bellpull says of itself passes no `payload`, so that a system which
/// needs one would refuse it: it goes to an endpoint of the user's.
#[test]
fn a_sink_has_an_endpoint_that_its_bridge_sends_to() {
    for recipe in recipe::all().iter().filter(|recipe| recipe.kind == Kind::Sink) {
        let config = load(recipe);
        assert_eq!(config.bridges.len(), 1, "{}", recipe.name);
        let bridge = config.bridges.values().next().expect("a bridge");
        let [route] = bridge.routes.as_slice() else { panic!("{}: {:?}", recipe.name, bridge.routes) };
        assert_ne!(&*route.endpoint, "me", "{}", recipe.name);
        let sink = &config.endpoints[&route.endpoint];
        let told: Vec<&str> = bridge.alert.to.iter().map(|name| &**name).collect();
        let (endpoints, alerts): (usize, &[&str]) = if sink.payload.is_some() { (2, &["me"]) } else { (1, &[]) };
        assert_eq!((config.endpoints.len(), told.as_slice()), (endpoints, alerts), "{}", recipe.name);
        assert_eq!(recipe.text.contains(&receiver(recipe)), endpoints == 2, "{}", recipe.name);
    }
}

/// The endpoint of the user's.
fn receiver(recipe: &Recipe) -> String {
    format!("url = \"https://example.com/hooks/{}\"", recipe.name)
}

#[test]
fn every_recipe_says_what_it_is_for_and_holds_no_secret() {
    for recipe in recipe::all() {
        let about = recipe.about();
        assert!(about.len() > 10 && about.ends_with('.'), "{}: {about:?}", recipe.name);
        assert!(recipe.text.starts_with("# "), "{}", recipe.name);
        assert!(!recipe.text.contains("{ value ="), "{} holds a secret", recipe.name);
        assert!(recipe.text.contains("# edit"), "{} has nothing to edit", recipe.name);
    }
}
