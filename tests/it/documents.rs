//! The documents do what they say: each command and each file that README.md and docs/ show is run or checked here, and a
//! new one fails until it is. Links lead somewhere, and ARCHITECTURE.md names tests that exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::PathBuf,
    process::Stdio,
};

use bellpull::{model::Timestamp, sign::Key};

use crate::support::daemon::{bellpull, run};

/// README is a front door; what does not fit belongs in docs/.
const README_LINES_MAX: usize = 250;
/// Words that make a reader stop: "again", "same as above", "except for" and "not a" say the same.
const STIFF: [&str; 4] = ["anew", "likewise", "but for", "is no"];
/// What makes the shown bridges a whole file.
const ENDPOINT: &str =
    "\n[endpoint.me]\nurl = \"https://example.com/hooks\"\nsign.standard.secrets = [{ env = \"ME_SECRET\" }]\n";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|e| panic!("{page}: {e}"))
}

fn readme() -> String {
    read("README.md")
}

/// The Markdown files below a directory, as paths from the root; without what tools leave there.
fn below(dir: &str) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(root().join(dir)).unwrap_or_else(|e| panic!("{dir}: {e}")) {
        let entry = entry.expect("readable");
        let name = entry.file_name().to_str().expect("UTF-8").to_owned();
        let path = format!("{dir}/{name}");
        if entry.path().is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                out.extend(below(&path));
            }
        } else if name.ends_with(".md") {
            out.push(path);
        }
    }
    out.sort();
    out
}

/// What a user reads: README.md and docs/.
fn shown() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    pages.extend(below("docs"));
    pages
}

/// A fenced block, with the section that it stands in.
struct Block {
    section: String,
    language: String,
    text: String,
}

fn all_blocks(text: &str) -> Vec<Block> {
    let (mut out, mut section) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
        } else if let Some(language) = line.strip_prefix("```") {
            let inner: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            out.push(Block { section: section.clone(), language: language.to_owned(), text: inner.join("\n") });
        }
    }
    out
}

/// The lines of all blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    all_blocks(text).into_iter().filter(|block| block.language == language).map(|block| block.text).collect()
}

/// A page without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// Texts in backquotes.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `demo` never ends by itself: five webhooks are what README promises.
fn demo_shows_five() {
    let mut child = bellpull().arg("demo").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let verified = lines.filter(|line| line.contains("# verified by standardwebhooks")).take(5).count();
    let interrupted = std::process::Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    assert!(interrupted.expect("kill runs").success());
    assert!(child.wait().expect("it ends").success());
    assert_eq!(verified, 5);
}

#[test]
fn every_command_is_run() {
    let commands: Vec<String> = shown()
        .iter()
        .flat_map(|page| blocks(&read(page), "sh"))
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands.iter().map(|c| c.split(" #").next().unwrap_or(c).trim()) {
        match command {
            "cargo run --release -- demo" => demo_shows_five(),
            // This very run, and the build before it.
            "cargo test" | "cargo build --release" => {}
            "target/release/bellpull check bridges.toml" => {
                let ran = run(&["check", "bridges.toml"]);
                assert_eq!(ran.code, 0, "{}", ran.err);
            }
            "target/release/bellpull secret" => {
                assert!(Key::parse(run(&["secret"]).out.trim()).is_ok());
            }
            "target/release/bellpull recipe" => {
                assert!(run(&["recipe"]).out.lines().any(|line| line.starts_with("stripe ")))
            }
            "target/release/bellpull recipe stripe" | "target/release/bellpull recipe stripe > bridges.toml" => {
                assert!(run(&["recipe", "stripe"]).out.contains("[bridge.stripe"));
            }
            // `tests/it/first_hour.rs` types these, with the URL of a server of its own.
            "target/release/bellpull try https://api.github.com/repos/octokit-fixture-org/paginate-issues/issues"
            | "target/release/bellpull --config mine.toml init https://api.github.com/repos/octokit-fixture-org/paginate-issues/issues"
            | "target/release/bellpull listen --secret-file issues.secret"
            | "target/release/bellpull --config mine.toml run" => {}
            other => panic!("the documents' command `{other}` is run by no test"),
        }
    }
}

/// What `check` says of a file.
fn checked(toml: &str) -> (i32, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("bridges.toml");
    std::fs::write(&file, toml).expect("written");
    let ran = run(&["check", file.to_str().expect("a path")]);
    (ran.code, ran.err)
}

#[test]
fn the_first_file_is_right_and_short() {
    let first = blocks(&readme(), "toml").into_iter().next().expect("a file");
    assert!(first.lines().filter(|line| !line.is_empty()).count() <= 10, "ten lines");
    assert_eq!(checked(&first), (0, String::new()));
}

#[test]
fn every_file_is_right() {
    let mut seen = 0;
    for page in shown() {
        for file in blocks(&read(&page), "toml") {
            let whole = if file.contains("[endpoint.") { file } else { file + ENDPOINT };
            assert_eq!(checked(&whole), (0, String::new()), "{page}: {whole}");
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen} files");
}

/// Programs are those that `tests/interop/run.sh` runs; what an admin types is typed by `tests/package/walk.py`.
#[test]
fn every_block_is_held_by_a_test() {
    let walk = read("tests/package/walk.py");
    for page in shown() {
        for block in all_blocks(&read(&page)) {
            let program = match block.language.as_str() {
                // The tests above and below.
                "sh" | "toml" => continue,
                "http" if page == "README.md" => continue,
                "bash" if page != "docs/receiving.md" => {
                    let place = format!("(TREE / \"{page}\", \"{}\")", block.section);
                    assert!(walk.contains(&place), "tests/package/walk.py does not have {place}");
                    continue;
                }
                "python" => "receive.py",
                "js" => "receive.mjs",
                "go" => "receive.go",
                "rust" => "receive.rs",
                "bash" => "receive.sh",
                other => panic!("{page} has a block of {other:?}, which no test looks at: {}", block.text),
            };
            let file = read(&format!("tests/interop/receivers/{program}"));
            assert_eq!(block.text, file.trim_end(), "{page} shows another {program}");
        }
    }
}

#[test]
fn the_shown_webhook_verifies_and_its_patch_applies() {
    let text = readme();
    let request = blocks(&text, "http").into_iter().next().expect("a webhook");
    let (head, body) = request.split_once("\n\n").expect("headers and a body");
    let headers: BTreeMap<&str, &str> = head.lines().filter_map(|line| line.split_once(": ")).collect();
    let body = body.replace('\n', "");
    let secret = text.split('`').find(|word| word.starts_with("whsec_")).expect("the secret is named");
    let key = Key::parse(secret).expect("a secret");
    let at: i64 = headers["webhook-timestamp"].parse().expect("seconds");
    let verdict = key.verify(|name| headers.get(name).copied(), body.as_bytes(), Timestamp(at * 1000));
    assert_eq!(verdict, Ok(()));
    let event: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let data = &event["data"];
    let patch: json_patch::Patch = serde_json::from_value(data["patch"].clone()).expect("RFC 6902");
    let mut value = data["before"].clone();
    json_patch::patch(&mut value, &patch).expect("it applies");
    assert_eq!(value, data["after"]);
}

/// docs/commands.md and `--help` agree.
#[test]
fn every_command_of_the_line_is_described() {
    let text = read("docs/commands.md");
    let help = run(&["--help"]).out;
    let commands = help.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1);
    let mut seen = 0;
    for line in commands.take_while(|l| !l.trim().is_empty()) {
        let Some(name) = line.strip_prefix("  ").and_then(|l| l.split(' ').next()).filter(|n| !n.is_empty()) else {
            continue;
        };
        if name != "help" {
            assert!(text.contains(&format!("`{name}")), "docs/commands.md does not describe `{name}`");
            seen += 1;
        }
    }
    assert!(seen >= 17, "{help}");
}

#[test]
fn readme_is_short() {
    let lines = readme().lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines");
}

/// A heading's anchor, by GitHub's rules.
fn slug(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

/// The anchors of a page; a heading that comes again has a number.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let mut out = BTreeSet::new();
    for line in prose(text).lines() {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let slug = slug(title);
        let count = met.entry(slug.clone()).or_default();
        out.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    out
}

/// Where the links of a page lead, as they are written.
fn links(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for paragraph in prose(text).split("\n\n") {
        let plain: String = paragraph.split('`').step_by(2).collect();
        out.extend(plain.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    out
}

#[test]
fn links_have_no_dead_end() {
    let mut pages = shown();
    pages.extend(["ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(str::to_owned));
    pages.extend(below("systemd"));
    pages.extend(below("tests"));
    let (mut seen, mut dead) = (0, Vec::new());
    for page in pages {
        let here = root().join(&page);
        for link in links(&read(&page)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if file.is_empty() { here.clone() } else { here.with_file_name(file) };
            if !target.exists() {
                dead.push(format!("{page}: {link} leads to no file"));
            } else if !anchor.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                if !anchors(&text).contains(anchor) {
                    dead.push(format!("{page}: {link} leads to no heading"));
                }
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(seen >= 80, "{seen} links");
}

/// Else the test before would find nothing in what it reads.
#[test]
fn links_and_headings_are_found() {
    let block = "```sh\n# none\n[no](link)\n```\n";
    let page = format!("# A `b.c`, [d]\n\nsee [`x`](y.md#z) and `[no](link)`\n\n{block}## A bc d\n### A bc d\n");
    assert_eq!(links(&page), ["y.md#z"]);
    let found: Vec<String> = anchors(&page).into_iter().collect();
    assert_eq!(found, ["a-bc-d", "a-bc-d-1", "a-bc-d-2"]);
    assert!(has_words("what\nis  no URL", "is no") && !has_words("this notion is not", "is no"));
}

/// Whether words stand in a text, also where a line ends between them.
fn has_words(text: &str, words: &str) -> bool {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let in_a_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    text.match_indices(words).any(|(at, _)| {
        let (before, after) = (text.get(..at), text.get(at + words.len()..));
        !in_a_word(before.and_then(|t| t.chars().next_back())) && !in_a_word(after.and_then(|t| t.chars().next()))
    })
}

#[test]
fn the_english_is_plain() {
    let mut pages = shown();
    pages.extend(["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned));
    pages.extend(below("systemd"));
    let mut texts: Vec<(String, String)> = pages.into_iter().map(|page| (page.clone(), prose(&read(&page)))).collect();
    // The help of each command and the text of each key stand in the manual.
    let manual = tempfile::tempdir().expect("a directory");
    assert_eq!(run(&["man", "--dir", manual.path().to_str().expect("a path")]).code, 0);
    for entry in std::fs::read_dir(manual.path()).expect("the directory") {
        let file = entry.expect("a page").path();
        texts
            .push((file.display().to_string(), std::fs::read_to_string(&file).expect("a page").replace(".TP", "\n\n")));
    }
    let mut found = Vec::new();
    for (page, text) in texts {
        for paragraph in text.split("\n\n") {
            for words in STIFF.iter().filter(|words| has_words(paragraph, words)) {
                found.push(format!("{page}: {words:?} in {paragraph}"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Tests that a text names, as `tests/it/poll.rs: name`: file and function.
fn tests_named(text: &str) -> Vec<(String, String)> {
    let named = codes(text).filter_map(|code| code.split_once(".rs: "));
    named.map(|(file, name)| (format!("{file}.rs"), name.to_owned())).collect()
}

#[test]
fn every_invariant_names_a_test_that_is_there() {
    let text = prose(&read("ARCHITECTURE.md"));
    let invariants: Vec<&str> = text.split("\n\n").filter(|paragraph| paragraph.starts_with("**I")).collect();
    assert!(invariants.len() >= 35, "{} invariants", invariants.len());
    for (at, paragraph) in invariants.iter().enumerate() {
        let number = format!("**I{}.** ", at + 1);
        assert!(paragraph.starts_with(&number), "{number} is expected: {paragraph}");
        let tests = tests_named(paragraph);
        assert!(!tests.is_empty() || paragraph.contains("No test holds it."), "{paragraph}");
        for (file, name) in tests {
            let path = root().join(&file);
            let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{number}{file}: {e}"));
            assert!(source.contains(&format!("fn {name}(")), "{number}{file} has no test {name}");
        }
    }
}
