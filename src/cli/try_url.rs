//! `try`: what a URL answers, in words and as a table, and then each change. It writes no file and sends no event.

use clap::Args;
use serde_json::{Value as Json, json};
use tokio::time::sleep;

use super::{
    Done, FAILED, Failure, IO, USAGE, print, show,
    trial::{Trial, Tried, UrlArgs},
};
use crate::{
    guess::{self, Because, Guess, draft::Walk, list::List, text::interval},
    http::{Answer, client},
    model::Timestamp,
    settings::units,
    store::EventFilter,
    terminal,
};

/// Records that are shown.
const ROWS: usize = 5;
/// What is shown of one field.
const CELL_CHARS: usize = 32;
/// Changes of one poll that are shown.
const CHANGES_MAX: usize = 50;

#[derive(Debug, Args)]
pub(super) struct TryArgs {
    #[command(flatten)]
    url: UrlArgs,
    /// How often it is polled
    #[arg(long, default_value = "5s", value_name = "TIME")]
    every: String,
    /// End after the first two reads
    #[arg(long)]
    once: bool,
}

pub(super) async fn try_url(args: TryArgs, json: bool) -> Done {
    let every = units::duration(&args.every).map_err(|e| Failure::new(USAGE, format!("--every: {e}")))?;
    if every.is_zero() {
        return Err(Failure::new(USAGE, "--every: 0 is no time between two polls: 1s is the least that makes sense"));
    }
    let trial = Trial::new(args.url.request()?, client::Config::default()).await?;
    let first = trial.read().await?;
    let guess = trial.guess(&first, None)?;
    if !json {
        print(&private(&trial))?;
        print(&said(&guess))?;
    }
    let second = trial.read_again().await?;
    let first_key = guess.list.key;
    let guess = trial.guess(&first, Some(&second))?;
    let mut tried = trial.bridge(&guess, &args.url.name()?, Walk::First).await?;
    // The second answer by the bridge itself: a guess that does not hold is told here.
    let counts = counted(&tried, &second).await?;
    if json {
        print(&format!("{}\n", summary(&guess, counts)))?;
    } else {
        if let Some(Because { what, why }) = guess.list.key.as_ref().filter(|key| first_key.as_ref() != Some(*key)) {
            print(&terminal::lines(&format!(
                "- key = {what}   {why}; the first choice is another one in each read\n"
            )))?;
        }
        let differs = guess.ignore.iter().map(|path| format!("- ignore {}   {}\n", path.what, path.why));
        print(&terminal::lines(&differs.collect::<String>()))?;
        print(&format!("- a bridge made of this reads {counts} records\n"))?;
    }
    if args.once {
        return Ok(());
    }
    if !json {
        print(&format!("\npolling every {}; Ctrl-C ends it\n", args.every))?;
    }
    let ignored = ignored(&guess);
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Ok(()),
        ended = watch(&mut tried, every, json, &ignored) => ended,
    }
}

/// What is tried although a daemon would refuse it.
pub(super) fn private(trial: &Trial) -> String {
    let line = |refused: &crate::http::egress::Refused| {
        format!(
            "{} is {}, which the daemon polls only where `network.allow` has \"{}\"; it is tried since you named it\n",
            refused.address, refused.what, refused.range
        )
    };
    terminal::lines(&trial.private.iter().map(line).collect::<String>()).into_owned()
}

/// What was found, and the first records.
pub(super) fn said(guess: &Guess) -> String {
    let words: String = guess.words().iter().map(|line| format!("- {}\n", terminal::line(line))).collect();
    format!("{words}\n{}\n", table(&guess.list, terminal::width()))
}

fn summary(guess: &Guess, records: usize) -> Json {
    let List { items, key, others, .. } = &guess.list;
    json!({
        "format": guess.format.what.name(), "items": items.what, "key": key.as_ref().map(|key| &key.what),
        "ignore": guess.ignore.iter().map(|path| &path.what).collect::<Vec<_>>(),
        "pages": guess.pages.as_ref().map(|pages| pages.what.key()), "every": interval(guess.every.what),
        "others": others, "records": records, "words": guess.words(),
    })
}

/// How many records the bridge reads in an answer.
async fn counted(tried: &Tried, answer: &Answer) -> Result<usize, Failure> {
    let page = guess::page(answer);
    let definition = &tried.polled.bridge.definition;
    let wrong = |e: &dyn std::fmt::Display| {
        Failure::new(FAILED, tried.poller.vault.redact(&format!("the guess does not hold: {e}")))
    };
    let count = definition.count(&page).map_err(|e| wrong(&e))?;
    let found = tried.poller.dry_run(&tried.polled, vec![page], None, None, &Json::Null, 0).await;
    found.map_err(|e| wrong(&e))?;
    Ok(count)
}

/// Polls, and prints each change.
async fn watch(tried: &mut Tried, every: std::time::Duration, json: bool, ignored: &[String]) -> Done {
    let mut known = 0;
    loop {
        let outcome = tried.poller.poll_once(&mut tried.polled).await;
        if let Err(failure) = &outcome.result {
            let now = tried.poller.clock.now();
            let failure = tried.poller.vault.redact(&failure.to_string());
            let line =
                if json { format!("{}\n", json!({ "error": failure })) } else { format!("{} {failure}\n", hour(now)) };
            print(&line)?;
        }
        let now = tried.polled.state.sequence;
        if now > known {
            let filter = EventFilter {
                bridge: Some(tried.name.clone()),
                bodies: true,
                limit: usize::try_from(now - known).unwrap_or(usize::MAX).min(CHANGES_MAX),
                ..EventFilter::default()
            };
            let events = tried.poller.store.read(move |engine| engine.events(&filter)).await;
            let events = events.map_err(|e| Failure::new(IO, e.to_string()))?;
            let left = (now - known).saturating_sub(crate::model::u64_of(events.len()));
            for stored in events.iter().rev() {
                let body: Json = serde_json::from_slice(&stored.event.body).unwrap_or_default();
                print(&if json { format!("{body}\n") } else { change(&body, stored.event.at, ignored) })?;
            }
            if left > 0 && !json {
                print(&format!("... and {left} more changes\n"))?;
            }
            known = now;
        }
        sleep(every.max(outcome.hint.unwrap_or_default())).await;
    }
}

/// The time of the day.
fn hour(at: Timestamp) -> String {
    at.to_utc().format("%H:%M:%S").to_string()
}

/// The JSON pointers of what is not compared, as far as its path is made of names alone.
fn ignored(guess: &Guess) -> Vec<String> {
    let plain = guess.ignore.iter().map(|path| &path.what).filter(|path| !path.contains(['"', '[', '/', '~']));
    plain.map(|path| path.replace('.', "/")).collect()
}

/// An event on a line, and its patch below, without what is not compared: `  /total 30 -> 999`.
fn change(event: &Json, at: Timestamp, ignored: &[String]) -> String {
    let kind = event["type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default();
    let data = &event["data"];
    let key = data["key"].as_str().unwrap_or_default();
    let mut out = format!("{} {kind:<8} {}\n", hour(at), terminal::line(key));
    if kind != "updated" {
        return out;
    }
    for step in data["patch"].as_array().into_iter().flatten() {
        let path = step["path"].as_str().unwrap_or_default();
        if ignored.iter().any(|ignored| ignored == path) {
            continue;
        }
        let before = data["before"].pointer(path).map(cell);
        let after = step.get("value").map(cell);
        let [before, after] = [before, after].map(|value| value.unwrap_or_else(|| "nothing".into()));
        out += &format!("           {} {before} -> {after}\n", terminal::line(path));
    }
    out
}

/// A value in few characters.
fn cell(value: &Json) -> String {
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Null => "-".into(),
        other => other.to_string(),
    };
    let line = terminal::line(&text);
    match line.chars().count() > CELL_CHARS {
        true => line.chars().take(CELL_CHARS - 1).chain(['…']).collect(),
        false => line,
    }
}

/// The first records: as many of their fields as fit, those of the key first.
fn table(list: &List, width: usize) -> String {
    let shown: Vec<&Json> = list.records.iter().take(ROWS).collect();
    let Some(Json::Object(first)) = shown.first() else {
        return shown.iter().map(|value| format!("{}\n", cell(value))).collect();
    };
    let is_short = |name: &&String| first.get(*name).is_some_and(|value| !value.is_object() && !value.is_array());
    let key = list.key.as_ref().and_then(|key| key.what.strip_prefix('.')).unwrap_or_default().to_owned();
    let mut names: Vec<&String> = first.keys().filter(is_short).collect();
    names.sort_by_key(|name| **name != key);
    let (mut used, mut columns) = (0, Vec::new());
    for name in names {
        let of = |record: &&Json| record.get(name).map_or_else(|| "-".to_owned(), cell);
        let cells: Vec<String> = shown.iter().map(of).collect();
        let head = cell(&Json::from(name.to_uppercase()));
        let wide = cells.iter().chain([&head]).map(|cell| cell.chars().count()).max().unwrap_or_default();
        if !columns.is_empty() && used + wide + 2 > width {
            break;
        }
        used += wide + 2;
        columns.push((head, cells));
    }
    let head: Vec<&str> = columns.iter().map(|(head, _)| head.as_str()).collect();
    let row = |at: usize| columns.iter().map(|(_, cells)| cells.get(at).cloned().unwrap_or_default()).collect();
    let rows: Vec<Vec<String>> = (0..shown.len()).map(row).collect();
    let left = list.records.len() - shown.len();
    let more = if left > 0 { format!("... and {left} more\n") } else { String::new() };
    show::table(&head, &rows) + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_a_table_that_fits() {
        let record =
            |n: u64| json!({ "id": n, "a": "x".repeat(60), "b": { "c": 1 }, "d": "\u{1b}[31m", "e": "y".repeat(40) });
        let list =
            List::of(&json!({ "data": (1..=7).map(record).collect::<Vec<_>>() }), &std::collections::BTreeSet::new());
        let shown = table(&list, 60);
        assert!(shown.starts_with("ID  A"), "{shown}");
        assert!(shown.ends_with("... and 2 more\n") && shown.lines().count() == 7, "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 60) && !shown.contains('\x1b'), "{shown}");
    }

    #[test]
    fn a_change_is_told_in_a_line_and_its_patch() {
        let event = json!({ "type": "orders.updated", "data": { "key": "7", "before": { "total": 30, "old": 1 },
            "after": { "total": 999, "new": "a" }, "patch": [{ "op": "replace", "path": "/seen", "value": 7 }, { "op": "replace", "path": "/total", "value": 999 },
            { "op": "add", "path": "/new", "value": "a" }, { "op": "remove", "path": "/old" }] } });
        assert_eq!(
            change(&event, Timestamp(0), &["/seen".to_owned()]),
            "00:00:00 updated  7\n           /total 30 -> 999\n           /new nothing -> a\n           /old 1 -> nothing\n"
        );
    }
}
