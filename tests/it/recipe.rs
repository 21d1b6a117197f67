//! The recipes: each is a whole configuration, without an error and without a warning.

use std::collections::BTreeSet;

use bellpull::{
    config::{self, Secrets},
    recipe,
};

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

#[test]
fn every_recipe_loads_without_a_warning() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut wrong = String::new();
    for recipe in recipe::all() {
        let path = dir.path().join(format!("{}.toml", recipe.name));
        std::fs::write(&path, recipe.text).expect("written");
        match config::load(&path, Secrets::FormOnly) {
            Err(failed) => wrong.push_str(&failed.to_string()),
            Ok(config) => {
                config.warnings.iter().for_each(|warning| wrong.push_str(&warning.text));
                assert!(!config.bridges.is_empty(), "{} has no bridge", recipe.name);
                assert_eq!(config.endpoints.keys().map(|name| &**name).collect::<Vec<_>>(), ["me"], "{}", recipe.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_recipe_says_what_it_is_for_and_holds_no_secret() {
    for recipe in recipe::all() {
        let about = recipe.about();
        assert!(about.len() > 10 && about.ends_with('.'), "{}: {about:?}", recipe.name);
        assert!(recipe.text.starts_with("# "), "{}", recipe.name);
        assert!(!recipe.text.contains("{ value ="), "{} holds a secret", recipe.name);
        assert!(
            recipe.text.contains(&format!("url = \"https://example.com/hooks/{}\"", recipe.name)),
            "{}",
            recipe.name
        );
        assert!(recipe.text.contains("# edit"), "{} has nothing to edit", recipe.name);
    }
}
