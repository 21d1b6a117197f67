//! Answers as a person reads them: tables, and JSON where the answer is a document.

use serde_json::{Value as Json, json};

use crate::{
    settings::diagnostic::{Rendered, Severity},
    terminal,
};

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Status,
    Next,
    Events,
    Attempts,
    Replayed,
    Value,
}

/// A finding of `check --json`.
pub(super) fn finding(found: &Rendered) -> Json {
    json!({
        "severity": match found.severity { Severity::Error => "error", Severity::Warning => "warning" },
        "file": found.file.display().to_string(), "line": found.line, "column": found.column,
        "message": found.message, "help": found.help,
    })
}

pub(super) fn human(value: &Json, kind: Kind, colour: bool) -> String {
    match kind {
        Kind::Status => status(value, colour),
        Kind::Next => next(value, colour),
        Kind::Events => events(value, colour),
        Kind::Attempts => attempts(value),
        Kind::Replayed => replayed(value),
        Kind::Value => format!("{value:#}\n"),
    }
}

/// A line of `watch`.
pub(super) fn notice(kind: &str, notice: &Json, json: bool) -> String {
    if json {
        return format!("{}\n", json!({ kind: notice }));
    }
    let error = notice.get("error").and_then(Json::as_str).map(|error| format!(": {error}")).unwrap_or_default();
    let took = text(notice, "took_ms");
    if kind == "poll" {
        let counts = ["created", "updated", "deleted"].map(|key| (notice[key].as_u64().unwrap_or_default(), key));
        let changes = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, key)| format!(", {count} {key}"));
        let changes: String = changes.collect();
        return format!(
            "poll      {} {}{changes} in {took} ms{error}\n",
            text(notice, "bridge"),
            text(notice, "outcome")
        );
    }
    let status = notice["status"].as_u64().map(|status| format!(" {status}")).unwrap_or_default();
    let (endpoint, event, class) = (text(notice, "endpoint"), text(notice, "event"), text(notice, "class"));
    format!("delivery  {endpoint} {event} {class}{status} in {took} ms{error}\n")
}

/// One attempt by itself, such as that of `endpoint test`.
pub(super) fn attempt(attempt: &Json) -> String {
    let answer = attempt["answer"].as_str().unwrap_or_default();
    let said: String = answer.trim_end().lines().map(|line| format!("\n{}", terminal::line(line))).collect();
    let status = if attempt["error"].is_null() { "taken".into() } else { text(attempt, "error") };
    format!(
        "{} {}: {status} ({}) after {} ms{said}\n",
        text(attempt, "endpoint"),
        text(attempt, "event"),
        text(attempt, "status"),
        text(attempt, "duration_ms")
    )
}

pub(super) fn text(value: &Json, key: &str) -> String {
    match value.get(key) {
        None | Some(Json::Null) => "-".into(),
        Some(Json::String(text)) => terminal::line(text),
        Some(other) => terminal::line(&other.to_string()),
    }
}

/// A time without its date's noise.
fn time(value: &Json, key: &str) -> String {
    let text = text(value, key);
    text.split_once('.').map_or(text.clone(), |(seconds, _)| seconds.replace('T', " "))
}

/// What painting adds to a word.
const PAINT_CHARS: usize = 9;

fn paint(word: &str, colour: bool) -> String {
    let code = match word {
        "ok" | "delivered" => "32",
        "failing" | "refusing" | "down" | "disabled" | "dead" => "31",
        "held" | "waiting" => "33",
        _ => return word.to_owned(),
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
}

/// Columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let visible = |cell: &str| cell.chars().count().saturating_sub(if cell.contains('\x1b') { PAINT_CHARS } else { 0 });
    let mut widths: Vec<usize> = head.iter().map(|h| h.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(visible(cell));
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(visible(cell)))));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut out = line(head.to_vec());
    for row in rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

fn status(value: &Json, colour: bool) -> String {
    let mut out = String::new();
    let mut notes = String::new();
    if let Some(why) = value.get("reload_refused").and_then(Json::as_str) {
        notes.push_str(&format!("\nthe last reload was refused: {}\n", terminal::line(why)));
    }
    if let Some(reset) = value.get("reset").filter(|reset| reset.is_object()) {
        notes.push_str(&format!(
            "\nthe stream is {} since {}: {}\n",
            text(value, "stream"),
            time(reset, "told"),
            text(reset, "reason"),
        ));
    }
    // One endpoint is shown alone.
    let is_whole = value.get("version").is_some();
    let bridges = value.get("bridges").and_then(Json::as_object);
    if let Some(bridges) = bridges.filter(|bridges| is_whole || !bridges.is_empty()) {
        let rows: Vec<Vec<String>> = bridges
            .iter()
            .map(|(name, b)| {
                if let Some(error) = b.get("last_error").and_then(Json::as_str) {
                    notes.push_str(&format!("\n{name}: {}\n", terminal::line(error)));
                }
                if let Some(count) = b.get("left_out").and_then(Json::as_u64).filter(|count| *count > 0) {
                    let why = terminal::line(&text(b, "left_out_error"));
                    notes.push_str(&format!("\n{name}: {count} records of the last answer were left out: {why}\n"));
                }
                if let Some(count) = b.get("replaced").and_then(Json::as_u64).filter(|count| *count > 0) {
                    notes.push_str(&format!("\n{name}: {count} characters of the last answer became U+FFFD\n"));
                }
                for hint in b.get("hints").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
                    notes.push_str(&format!("\n{name}: {}\n", terminal::line(hint)));
                }
                if let Some(hold) = b.get("hold").filter(|h| h.get("rejected") == Some(&Json::Bool(false))) {
                    notes.push_str(&format!(
                        "\n{name} is held: {}\n  {} created, {} updated, {} deleted; hash {}\n  bellpull accept {name} --hash {}   or   bellpull reject {name}\n",
                        text(hold, "reason"), text(hold, "created"), text(hold, "updated"), text(hold, "deleted"),
                        text(hold, "hash"), text(hold, "hash"),
                    ));
                }
                vec![
                    name.clone(), paint(&text(b, "state"), colour), text(b, "records"), time(b, "last_poll"),
                    time(b, "next_poll"), text(b, "failures"),
                ]
            })
            .collect();
        out.push_str(&table(&["BRIDGE", "STATE", "RECORDS", "LAST POLL", "NEXT POLL", "FAILURES"], &rows));
    }
    if let Some(endpoints) = value.get("endpoints").and_then(Json::as_object) {
        let rows: Vec<Vec<String>> = endpoints
            .iter()
            .map(|(name, e)| {
                for key in ["disabled", "last_error"] {
                    if let Some(error) = e.get(key).and_then(Json::as_str) {
                        notes.push_str(&format!("\n{name}: {}\n", terminal::line(error)));
                    }
                }
                for (origin, state) in e.get("origins").and_then(Json::as_object).into_iter().flatten() {
                    let stands = if state["down"] == Json::Bool(true) { "down" } else { "waited for" };
                    let (at, error) = (time(state, "next_attempt"), text(state, "last_error"));
                    notes.push_str(&format!("\n{name}: {} is {stands} until {at}: {error}\n", terminal::line(origin)));
                }
                vec![
                    name.clone(),
                    paint(&text(e, "state"), colour),
                    text(e, "waiting"),
                    text(e, "dead"),
                    time(e, "oldest"),
                    time(e, "next_attempt"),
                ]
            })
            .collect();
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&table(&["ENDPOINT", "STATE", "WAITING", "DEAD", "OLDEST", "NEXT ATTEMPT"], &rows));
    }
    out + &notes
}

fn events(value: &Json, colour: bool) -> String {
    let rows: Vec<Vec<String>> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| {
            let deliveries = event.get("deliveries").and_then(Json::as_array).into_iter().flatten();
            let states = deliveries
                .map(|d| format!("{} {}", text(d, "endpoint"), text(d, "state")))
                .collect::<Vec<_>>()
                .join(", ");
            vec![
                time(event, "timestamp"),
                text(event, "id"),
                text(event, "type"),
                text(event, "key"),
                text(event, "sequence"),
                states,
                why(event),
            ]
        })
        .collect();
    let _ = colour;
    let head = ["TIME", "ID", "TYPE", "KEY", "SEQUENCE", "DELIVERIES", "LAST ATTEMPT"];
    // Only a listing of a state has the last one.
    let columns = if rows.iter().any(|row| row.last().is_some_and(|why| why != "-")) { 7 } else { 6 };
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().take(columns).collect()).collect();
    table(head.get(..columns).unwrap_or(&head), &rows)
}

/// How much of an answer stands beside its event.
const ANSWER_CHARS: usize = 80;

/// What the last attempt at an event led to, with the beginning of its answer; or why there was none.
fn why(event: &Json) -> String {
    let last = &event["last_attempt"];
    if last.is_null() {
        let mut deliveries = event.get("deliveries").and_then(Json::as_array).into_iter().flatten();
        return deliveries.find(|d| d["error"].is_string()).map_or_else(|| "-".into(), |d| text(d, "error"));
    }
    let answer: String = last["answer"].as_str().unwrap_or_default().trim().chars().take(ANSWER_CHARS).collect();
    let said = if last["error"].is_null() { text(last, "status") } else { text(last, "error") };
    if answer.is_empty() { said } else { format!("{said}: {}", terminal::line(&answer)) }
}

/// What `replay` did, and why deliveries were left out.
fn replayed(value: &Json) -> String {
    let count = |key: &str| value[key].as_u64().unwrap_or_default();
    let mut out = match (count("events"), count("deliveries")) {
        (0, _) => "nothing is sent again: no event is meant by that\n".to_owned(),
        (events, 0) => format!("nothing is sent again of {events} events\n"),
        (events, deliveries) => format!("sends again: {deliveries} deliveries of {events} events\n"),
    };
    for (why, times) in value.get("left_out").and_then(Json::as_object).into_iter().flatten() {
        out.push_str(&format!("  left out: {times}, since {}\n", terminal::line(why)));
    }
    if value["more"] == Json::Bool(true) {
        out.push_str("  there are more: say it again once these are sent\n");
    }
    out
}

/// When bridges are polled next, the soonest first. One that is not polled has no such time.
fn next(value: &Json, colour: bool) -> String {
    let bridges = value.get("bridges").and_then(Json::as_object).into_iter().flatten();
    let mut polled: Vec<(&str, &String, &Json)> =
        bridges.filter_map(|(name, b)| Some((b.get("next_poll")?.as_str()?, name, b))).collect();
    polled.sort_by_key(|(at, name, _)| (*at, *name));
    let row = |(_, name, b): (&str, &String, &Json)| {
        vec![time(b, "next_poll"), name.clone(), paint(&text(b, "state"), colour)]
    };
    let rows: Vec<Vec<String>> = polled.into_iter().map(row).collect();
    table(&["NEXT POLL", "BRIDGE", "STATE"], &rows)
}

fn attempts(value: &Json) -> String {
    let rows: Vec<Vec<String>> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|a| {
            vec![
                text(a, "at"),
                text(a, "endpoint"),
                text(a, "event"),
                text(a, "number"),
                text(a, "status"),
                format!("{}ms", text(a, "duration_ms")),
                text(a, "error"),
            ]
        })
        .collect();
    table(&["TIME", "ENDPOINT", "EVENT", "ATTEMPT", "STATUS", "DURATION", "ERROR"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_polled_next_comes_first() {
        let bridge = |at: Option<&str>| json!({ "state": "ok", "next_poll": at });
        let status = json!({ "bridges": {
            "a": bridge(Some("2026-11-24T12:00:00.000Z")), "b": bridge(Some("2026-11-24T09:00:00.000Z")),
            "c": bridge(None), "d": bridge(Some("2026-11-24T12:00:00.000Z")),
        } });
        let shown = human(&status, Kind::Next, false);
        let names: Vec<&str> = shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
        assert_eq!(names, ["b", "a", "d"], "{shown}");
    }

    /// `status ENDPOINT` said that no bridge is called so.
    #[test]
    fn one_endpoint_is_shown_with_the_origins_that_it_waits_for() {
        let origin =
            json!({ "down": true, "next_attempt": "2026-11-24T12:00:00.000Z", "last_error": "it answered 503" });
        let full = json!({ "down": false, "next_attempt": "2026-11-24T12:01:00.000Z", "last_error": null });
        let endpoint = json!({ "state": "failing", "waiting": 3, "dead": 0,
            "origins": { "https://a.example": origin, "https://b.example": full } });
        let shown = human(&json!({ "bridges": {}, "endpoints": { "me": endpoint } }), Kind::Status, false);
        assert!(shown.starts_with("ENDPOINT"), "{shown}");
        assert!(
            shown.contains("\nme: https://a.example is down until 2026-11-24 12:00:00: it answered 503\n"),
            "{shown}"
        );
        assert!(shown.contains("\nme: https://b.example is waited for until 2026-11-24 12:01:00: -\n"), "{shown}");
    }

    /// Without a word about it, `status` showed a bridge that leaves records out as one that is fine.
    #[test]
    fn what_was_left_out_and_replaced_is_shown() {
        let bridge = json!({ "state": "ok", "left_out": 2, "left_out_error": "record 3 has no key", "replaced": 1 });
        let shown =
            human(&json!({ "bridges": { "a": bridge, "b": { "left_out": 0, "replaced": 0 } } }), Kind::Status, false);
        assert!(shown.contains("\na: 2 records of the last answer were left out: record 3 has no key\n"), "{shown}");
        assert!(shown.contains("\na: 1 characters of the last answer became U+FFFD\n"), "{shown}");
        assert!(!shown.contains("\nb: "), "{shown}");
    }

    /// `{"deliveries": 0, "events": 2}` did not say why.
    #[test]
    fn what_a_replay_did() {
        let nothing = json!({ "events": 2, "deliveries": 0, "left_out": { "it waits for me already": 2 } });
        assert_eq!(
            human(&nothing, Kind::Replayed, false),
            "nothing is sent again of 2 events\n  left out: 2, since it waits for me already\n"
        );
        let some = json!({ "events": 2, "deliveries": 3 });
        assert_eq!(human(&some, Kind::Replayed, false), "sends again: 3 deliveries of 2 events\n");
    }

    #[test]
    fn an_answer_stands_beside_its_dead_letter() {
        let last = json!({ "status": 422, "error": "the receiver answered 422", "answer": format!("no such field{}", "x".repeat(200)) });
        let event =
            json!({ "id": "evt_1", "deliveries": [{ "endpoint": "me", "state": "dead" }], "last_attempt": last });
        let shown = human(&json!([event]), Kind::Events, false);
        assert!(
            shown.contains("LAST ATTEMPT") && shown.contains("the receiver answered 422: no such fieldxx"),
            "{shown}"
        );
        assert!(shown.lines().all(|line| line.len() < 200), "{shown}");
        let unsent =
            json!({ "id": "evt_1", "deliveries": [{ "endpoint": "me", "state": "dead", "error": "`payload` fails" }] });
        assert!(human(&json!([unsent]), Kind::Events, false).contains("`payload` fails"));
        let plain = json!({ "id": "evt_1", "deliveries": [{ "endpoint": "me", "state": "delivered" }] });
        assert!(!human(&json!([plain]), Kind::Events, false).contains("LAST ATTEMPT"));
    }

    /// A key of an escape character made the width of a cell underflow: every listing that had it ended in a panic.
    #[test]
    fn what_others_wrote_moves_no_cursor() {
        let deliveries = json!([{ "endpoint": "me", "state": "dead" }]);
        let event = json!({ "timestamp": "2026-11-23T12:00:00.000Z", "id": "evt_1", "type": "a.created",
            "bridge": "a", "key": "\u{1b}", "sequence": 1, "deliveries": deliveries });
        let shown = human(&json!([event]), Kind::Events, true);
        assert!(shown.contains(r"\u001b") && shown.matches('\x1b').count().is_multiple_of(2), "{shown:?}");
        let tried = json!({ "endpoint": "me", "event": "evt_1", "status": 200, "duration_ms": 3, "error": null,
            "answer": "\u{1b}]0;owned\u{7}\nnext" });
        let shown = attempt(&tried);
        assert!(!shown.contains(['\x1b', '\x07']) && shown.ends_with("\nnext\n"), "{shown:?}");
    }
}
