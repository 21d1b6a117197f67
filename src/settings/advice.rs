//! What to write instead of what is wrong: the words of other tools, a value of another form, and jq that is nearly right.
//!
//! It judges nothing: it is asked once something is refused, and may have no answer. It never repeats a value that may be a
//! secret.

use toml::de::DeValue;

use super::diagnostic::is_secret;
use crate::expr::{CompileError, Expr};

/// Keys that have another name here, by the table that they are in, and the line to write. A `*` of a place is a name, and a first
/// `**` any way to the rest. `-` and `_`, and upper and lower case, are the same in a key.
pub(crate) const SYNONYMS: &[(&str, &str, &str)] = &[
    ("", "bridges jobs job polls sources monitors monitor feeds watches", "[bridge.NAME], a table for each"),
    ("", "source http", "[bridge.NAME.source.http]"),
    ("", "endpoints sinks sink targets target destinations receivers webhooks webhook outputs", "[endpoint.NAME]"),
    ("", "global settings server general config bellpull", "[daemon], [network], [store] or [log]"),
    ("", "logging logs log_level loglevel", "[log] with level = \"info\""),
    ("", "database db storage state", "[store]"),
    ("", "includes import imports", "include = [\"conf.d/*.toml\"]"),
    ("", "port bind address", "[daemon] with listen = \"127.0.0.1:8642\""),
    ("daemon", "port bind address host addr", "listen = \"127.0.0.1:8642\""),
    ("bridge.*", "interval frequency period poll poll_interval refresh refresh_interval check_interval", EVERY),
    ("bridge.*", "scrape_interval seconds minutes", EVERY),
    ("bridge.*", "schedule crontab", "every = \"5m\", or cron = \"*/5 * * * *\""),
    ("bridge.*", "tz time_zone", "timezone = \"Europe/Paris\""),
    ("bridge.*", "url uri href api address type", SOURCE),
    ("bridge.*", "command exec script program", "source.command.argv = [\"/usr/local/bin/orders\"]"),
    ("bridge.*", "endpoint endpoints target targets destination destinations sink sinks output outputs", TO),
    ("bridge.*", "notify notification notifications send_to receiver receivers webhook webhooks callback", TO),
    ("bridge.*", "id id_field primary_key unique_key unique identifier key_field record_key", "key = \".id\""),
    ("bridge.*", "jsonpath json_path path records record_path data_path root selector jq extract list", ITEMS),
    ("bridge.*", "filter condition if where", WHEN),
    ("bridge.*", "exclude ignore_fields ignored ignore_keys skip", "ignore = [\".updated_at\"]"),
    ("bridge.*", "event events event_types changes", ON),
    ("bridge.*", "initial backfill emit_initial first_run", "first-poll = \"emit\""),
    ("bridge.*", "disabled disable paused", "enabled = false"),
    ("bridge.*", "name title", "[bridge.NAME]: the name stands in the heading"),
    ("bridge.*", "token bearer api_key apikey access_token", "source.http.auth.bearer.secret = { env = \"TOKEN\" }"),
    ("bridge.*.source", "url uri href type kind rest https api json web", SOURCE),
    ("bridge.*.source", "exec script shell program", "source.command.argv = [\"/usr/local/bin/orders\"]"),
    ("bridge.*.source", "ws wss", "source.websocket.url = \"wss://api.example.com/orders\""),
    ("bridge.*.source.*", "uri href endpoint address base_url path", "url = \"https://api.example.com/orders\""),
    ("bridge.*.source.*", "params param parameters query_params qs args search", "query = { status = \"open\" }"),
    ("bridge.*.source.*", "token bearer api_key apikey access_token bearer_token authorization", BEARER_WHOLE),
    ("bridge.*.source.*", "user username password basic basic_auth credentials login", BASIC),
    ("bridge.*.source.*", "data payload form content", "json = { status = \"open\" } beside method = \"POST\""),
    ("bridge.*.source.*", "verb", "method = \"POST\""),
    ("bridge.*.source.*", "verify verify_ssl ssl_verify insecure insecure_skip_verify skip_verify cacert ca", CA),
    ("bridge.*.source.*", "pagination paging paginate page per_page cursor", "pages.page = { param = \"page\" }"),
    ("bridge.*.source.*", "format parser parse csv xml html feed rss content_type", "decode.csv = {}"),
    ("bridge.*.source.*", "rate_limit ratelimit rps", "rate = \"10/s\""),
    ("bridge.*.source.*", "max_size size_limit max_bytes", "size-max = \"32MiB\""),
    (
        "endpoint.*",
        "target uri webhook webhook_url address href endpoint callback http",
        "url = \"https://example.com/hooks\"",
    ),
    ("endpoint.*", "secret secrets key hmac signature signing_secret signing", SIGN),
    ("endpoint.*", "token bearer api_key apikey access_token authorization", BEARER_WHOLE),
    ("endpoint.*", "user username password basic basic_auth", BASIC),
    ("endpoint.*", "template message text content json data", "payload = '{ text: .type }'"),
    ("endpoint.*", "retries max_retries attempts max_attempts backoff retry_schedule", RETRY),
    ("endpoint.*", "event events event_types", ON),
    ("endpoint.*", "filter condition if where", WHEN),
    ("endpoint.*", "concurrency parallel workers max_in_flight", "in-flight = 4"),
    ("endpoint.*", "rate_limit ratelimit rps", "rate = \"10/s\""),
    ("endpoint.*", "name title", "[endpoint.NAME]: the name stands in the heading"),
    ("endpoint.*.sign", "secret secrets key keys env file credential value", SIGN),
    (
        "endpoint.*.sign",
        "sha256 hmac_sha256 hmacsha256",
        "sign.hmac = { header = \"X-Signature\", secrets = [{ env = \"SECRET\" }] }",
    ),
    ("endpoint.*.sign.*", "secret key env file credential value", "secrets = [{ env = \"SECRET\" }]"),
    ("**.auth", "secret token env file credential value key", BEARER_WHOLE),
    ("**.auth", "user username password", BASIC),
    ("**.auth", "api_key apikey", "auth.headers = { X-Api-Key = { env = \"API_KEY\" } }"),
    ("**.auth.bearer", "token env file credential value key", "secret = { env = \"TOKEN\" }"),
    ("**.auth.basic", "user name login", "username = \"reader\""),
    ("**.auth.basic", "pass secret token env file", "password = { env = \"PASSWORD\" }"),
];

/// Tables and lists that are often written as something else, by their place: the line to write.
pub(crate) const FORMS: &[(&str, &str)] = &[
    ("bridge.*.source", SOURCE),
    ("bridge.*.source.*", SOURCE),
    ("bridge.*.deletes", "deletes.report = false"),
    ("bridge.*.guard", "guard.deletes = 0.5"),
    ("bridge.*.alert", "alert.to = [\"me\"]"),
    ("bridge.*.since", "since = { param = \"updated_after\", from = \".updated_at\", order = \"time\" }"),
    ("bridge.*.first-poll", "first-poll = \"emit\""),
    ("endpoint.*.sign", SIGN),
    ("endpoint.*.sign.*", SIGN),
    ("endpoint.*.sign.*.secrets", "secrets = [{ env = \"SECRET\" }]"),
    ("endpoint.*.retry", RETRY),
    ("endpoint.*.batch", "batch = { max = 100, wait = \"1s\" }"),
    ("endpoint.*.payload", "payload = '{ text: .type }': jq in single quotes"),
    ("bridge.*.when", WHEN),
    ("endpoint.*.when", WHEN),
    ("**.auth", BEARER_WHOLE),
    ("**.auth.bearer", BEARER_WHOLE),
    ("**.auth.basic", BASIC),
    ("bridge.*.source.http.headers", "headers = { Accept = \"text/csv\" }"),
    ("bridge.*.source.http.query", "query = { status = \"open\" }"),
    ("log", "[log] with level = \"info\""),
    ("bridge", "[bridge.NAME], a table for each bridge"),
    ("bridge.*", "[bridge.NAME] above it: each bridge is a table"),
    ("endpoint", "[endpoint.NAME], a table for each endpoint"),
    ("endpoint.*", "[endpoint.NAME] with url = \"https://example.com/hooks\": each endpoint is a table"),
];

const SOURCE: &str = "source.http.url = \"https://api.example.com/orders\"";
const EVERY: &str = "every = \"5m\"";
const ITEMS: &str = "items = \".data[]\"";
const TO: &str = "to = [\"me\"], where [endpoint.me] has url = \"https://example.com/hooks\"";
const WHEN: &str = "when = '.data.after.status == \"failed\"'";
const ON: &str = "on = [\"created\", \"updated\", \"deleted\"]";
const BEARER_WHOLE: &str = "auth.bearer.secret = { env = \"TOKEN\" }";
const BASIC: &str = "auth.basic = { username = \"reader\", password = { env = \"PASSWORD\" } }";
const CA: &str = "ca = \"/etc/ssl/api.pem\" in [network]: a certificate is always verified";
const SIGN: &str = "sign.standard.secrets = [{ env = \"SECRET\" }]";
const RETRY: &str = "retry.schedule = [\"5s\", \"5m\", \"1h\"]";

/// A text that is repeated in advice is not longer.
const SHOWN_CHARS_MAX: usize = 60;

/// What a key of another tool is here, in the table at `path` or, of a source, in its bridge.
pub fn synonym(path: &str, key: &str) -> Option<String> {
    let plain = |key: &str| key.to_ascii_lowercase().replace('-', "_");
    let key = plain(key);
    let at = |path: &str| {
        let mut rows =
            SYNONYMS.iter().filter(|(place, keys, _)| fits(place, path) && keys.split(' ').any(|k| k == key));
        rows.next().map(|(.., line)| *line)
    };
    if let Some(line) = at(path) {
        return Some(format!("write {line}"));
    }
    let mut above = path.match_indices('.').map(|(dot, _)| path.get(..dot).unwrap_or_default());
    let bridge = above.find(|above| fits("bridge.*", above)).filter(|_| fits("bridge.*.source.*", path))?;
    at(bridge).map(|line| format!("write {line} in [{bridge}]"))
}

/// Whether a place of the lists is this path.
fn fits(place: &str, path: &str) -> bool {
    if let Some(end) = place.strip_prefix("**") {
        return path.ends_with(end);
    }
    let (mut place, mut path) = (place.split('.'), path.split('.'));
    loop {
        match (place.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// The line that holds a value in the form that its key takes; `what` says that form, as the error does.
pub fn form(path: &str, value: &DeValue<'_>, what: &str) -> Option<String> {
    let key = path.rsplit('.').next().unwrap_or(path);
    let text = match value {
        DeValue::String(text) => Some(&**text).filter(|text| is_shown(path, text)),
        _ => None,
    };
    let line = match value {
        // An element of a list.
        _ if key.ends_with(']') => None,
        DeValue::Integer(number) if !is_secret(path) => match what.split(' ').nth(1) {
            Some("duration") => Some(format!("{key} = \"{number}s\"")),
            Some("size") => Some(format!("{key} = \"{number}B\"")),
            Some("rate") => Some(format!("{key} = \"{number}/s\"")),
            Some("string") => Some(format!("{key} = \"{number}\"")),
            _ => None,
        },
        DeValue::String(_) => text.and_then(|text| of_text(key, text, what)),
        DeValue::Table(_) if what == "a list" && !is_secret(path) => Some(format!("{key} = [{{ ... }}]")),
        _ => None,
    };
    let known = || FORMS.iter().find(|(place, _)| fits(place, path)).map(|(_, line)| (*line).to_owned());
    line.or_else(known).map(|line| format!("write {line}"))
}

/// Of a string in whose place something else is read.
fn of_text(key: &str, text: &str, what: &str) -> Option<String> {
    let number = text.trim().trim_end_matches('%');
    match what {
        "a list" => Some(format!("{key} = [{text:?}]")),
        "true or false" => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(format!("{key} = true")),
            "false" | "no" | "off" | "0" => Some(format!("{key} = false")),
            _ => None,
        },
        "a whole number" => number.parse::<u64>().ok().map(|n| format!("{key} = {n}")),
        "a number from 0 to 1" => {
            let scale = if text.trim().ends_with('%') { 100.0 } else { 1.0 };
            let share = number.trim().parse::<f64>().ok()? / scale;
            (0.0..=1.0).contains(&share).then(|| format!("{key} = {share}"))
        }
        "a table" if matches!(key, "decode" | "pages") => {
            let word = text.chars().all(|c| c.is_ascii_lowercase()).then_some(text)?;
            match (key, word) {
                ("pages", "cursor") => Some("pages.cursor = { param = \"cursor\", next = \".next_cursor\" }".into()),
                ("pages", "page" | "offset") => Some(format!("pages.{word} = {{ param = \"{word}\" }}")),
                // An answer is read as JSON where nothing else is said.
                ("decode", "json") => {
                    Some("no `decode`: an answer is JSON unless its Content-Type says something else".into())
                }
                _ => Some(format!("{key}.{word} = {{}}")),
            }
        }
        _ => None,
    }
}

/// Whether a text of the file may stand in advice. A URL may hold a password, a token in its path or one in its query.
fn is_shown(path: &str, text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " .,_-[]%".contains(c);
    !is_secret(path) && text.len() <= SHOWN_CHARS_MAX && text.chars().all(plain)
}

/// What jq a text that is none was most likely meant for: only what compiles is said. `items` gives the records of a list.
pub fn jq(path: &str, text: &str, parse: fn(&str) -> Result<Expr, CompileError>) -> Option<String> {
    let key = path.rsplit('.').next().unwrap_or(path);
    if is_secret(path) || text.len() > SHOWN_CHARS_MAX {
        return None;
    }
    let meant = meant(text, key == "items").into_iter().find(|meant| *meant != text && parse(meant).is_ok())?;
    // A string in single quotes may hold double quotes.
    let quote = if meant.contains('"') { '\'' } else { '"' };
    (!meant.contains(quote)).then(|| format!("did you mean {quote}{meant}{quote}?"))
}

/// Spellings that the text may stand for, the likeliest first: a bare name, JSONPath, a JSON pointer, the operators of
/// other languages, and a name with a dash.
fn meant(text: &str, is_list: bool) -> Vec<String> {
    let text = text.trim();
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let step = |name: &str| if name.contains('-') { format!(".\"{name}\"") } else { format!(".{name}") };
    let spread = |path: String| if is_list && !path.ends_with("[]") { path + "[]" } else { path };
    let names = |mut names: std::str::Split<'_, char>| {
        names.clone().all(|name| is_name(name.trim_end_matches("[]"))).then(|| {
            names
                .by_ref()
                .map(|name| {
                    let bare = name.trim_end_matches("[]");
                    step(bare) + name.get(bare.len()..).unwrap_or_default()
                })
                .collect::<String>()
        })
    };
    let stars = text.replace("[*]", "[]").replace(".*", "[]");
    let rooted = stars.strip_prefix('$').unwrap_or(&stars);
    let dotted = rooted.strip_prefix('.').unwrap_or(rooted);
    let mut all = Vec::new();
    all.extend(names(dotted.split('.')).map(spread));
    all.extend(text.strip_prefix('/').and_then(|path| names(path.split('/'))).map(spread));
    if rooted.starts_with('[') {
        all.push(format!(".{rooted}"));
    }
    all.push(rooted.to_owned());
    let operators =
        text.replace("===", "==").replace("!==", "!=").replace("&&", "and").replace("||", "or").replace('\'', "\"");
    all.push(operators);
    all
}

/// What a syntax error of TOML is mended by, by the parser's words and the line that it is in.
pub fn toml(message: &str, line: &str) -> Option<&'static str> {
    let line = line.trim();
    let heading = line.strip_prefix('[').map(|heading| heading.trim_start_matches('['));
    let colon = || line.split_once(':').is_some_and(|(key, _)| !key.is_empty() && !key.contains(['=', '"', '\'']));
    let value = line.split_once('=').map(|(_, value)| value.trim().to_ascii_lowercase()).unwrap_or_default();
    let is_switch = ["true", "false", "yes", "no", "on", "off"].contains(&value.as_str());
    Some(match () {
        () if message.contains("duplicate key") => {
            "a table or a key stands twice in this file: keep one, or put both tables' keys under one heading"
        }
        () if line.contains(['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}']) => "write straight quotes: \" or '",
        () if heading.is_some_and(|h| h.contains(' ')) => "write a dot between the names: [bridge.orders]",
        () if line.starts_with('{') => "this is JSON; write TOML: [bridge.orders], and key = value on lines below it",
        () if heading.is_none() && colon() && !line.contains('=') => {
            "write `=` between a key and its value, and [bridge.orders] for a table"
        }
        () if is_switch => "write true or false, in lower case and without quotes",
        // What begins as `true` does is taken for it.
        () if message.contains("must be quoted") || message.contains("boolean") => {
            "put the value in quotes, such as every = \"5m\""
        }
        () if message.contains("invalid basic string") => "close the quotes: \"...\" on one line",
        () => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A newcomer's `interval` was answered with a list of 24 keys.
    #[test]
    fn each_word_of_another_tool_is_answered_in_any_spelling() {
        for (place, keys, line) in SYNONYMS {
            let path = place.replace('*', "a").replace("aa", "bridge.a.source.http");
            for key in keys.split(' ') {
                for key in [key.to_owned(), key.to_uppercase(), key.replace('_', "-")] {
                    let told = synonym(&path, &key).unwrap_or_else(|| panic!("{path} {key}"));
                    assert_eq!(told, format!("write {line}"), "{path} {key}");
                }
            }
        }
        assert_eq!(synonym("bridge.a.source.http", "interval").as_deref(), Some("write every = \"5m\" in [bridge.a]"));
        assert_eq!(synonym("bridge.a.source.http.pages.page", "interval"), None);
        assert_eq!(synonym("bridge.a", "evry"), None);
    }

    #[test]
    fn jq_that_was_meant() {
        for (key, text, meant) in [
            ("key", "id", r#"".id""#),
            ("key", "$.id", r#"".id""#),
            ("key", "/id", r#"".id""#),
            ("key", "order-id", r#"'."order-id"'"#),
            ("key", ".order-id", r#"'."order-id"'"#),
            ("items", "data", r#"".data[]""#),
            ("items", "data.orders", r#"".data.orders[]""#),
            ("items", "$.data[*]", r#"".data[]""#),
            ("items", ".data[*]", r#"".data[]""#),
            ("items", "$[*]", r#"".[]""#),
            ("items", "/data/orders", r#"".data.orders[]""#),
            ("when", ".a == 'x'", r#"'.a == "x"'"#),
            ("when", ".a === 1 && .b === 2", r#"".a == 1 and .b == 2""#),
        ] {
            let told = jq(&format!("bridge.a.{key}"), text, Expr::parse);
            assert_eq!(told, Some(format!("did you mean {meant}?")), "{text}");
        }
        for text in [".[] |", ".[] | nosuch(.a)", "", "a b", "https://example.com/", ".id"] {
            assert_eq!(jq("bridge.a.items", text, Expr::parse).filter(|_| text != ".id"), None, "{text}");
        }
        assert_eq!(jq("bridge.a.source.http.headers.token.jq", "s3cret", Expr::parse), None);
    }

    /// Names with and without dashes, of a few depths, in each of the spellings: what is told compiles, and leads there.
    #[test]
    fn what_is_told_of_any_path_leads_to_its_place() {
        let names = ["id", "order_id", "order-id", "Data", "x9"];
        let mut seed = 7_usize;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..300 {
            let path: Vec<&str> = (0..=next(3)).map(|_| names[next(names.len())]).collect();
            let input = path.iter().rev().fold(serde_json::json!(1), |inner, name| serde_json::json!({ *name: inner }));
            let spelled = match next(3) {
                0 => path.join("."),
                1 => format!("$.{}", path.join(".")),
                _ => format!("/{}", path.join("/")),
            };
            let told = jq("bridge.a.key", &spelled, Expr::parse).unwrap_or_else(|| panic!("{spelled}"));
            let program = told.trim_start_matches("did you mean ").trim_end_matches('?');
            let program = program.get(1..program.len() - 1).expect("in quotes");
            let found = Expr::parse(program).expect("it compiles").first(&input).expect("it runs");
            assert_eq!(found, Some(serde_json::json!(1)), "{spelled}: {program}");
        }
    }

    #[test]
    fn no_secret_is_repeated() {
        let text = "abcDEF123456".to_owned();
        let value = DeValue::String(text.clone().into());
        for path in
            ["bridge.a.source.http.auth.bearer", "endpoint.a.sign", "endpoint.a.sign.standard.secrets", "daemon.token"]
        {
            for what in ["a table", "a list", "a string", "true or false"] {
                assert!(!form(path, &value, what).unwrap_or_default().contains(&text), "{path} {what}");
            }
        }
        let url = DeValue::String("https://user:password@example.com/".into());
        assert_eq!(form("bridge.a.to", &url, "a list"), None);
        assert_eq!(form("bridge.a.source", &url, "a table"), Some(format!("write {SOURCE}")));
    }
}
