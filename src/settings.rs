//! Reading a TOML table key by key, with every error of all files collected and placed.
//!
//! A part of bellpull reads its own keys: it takes them from a [`Table`], and what it leaves is an unknown key. Nothing
//! here knows a key's meaning, and no error stops the reading.

pub mod advice;
pub mod diagnostic;
pub mod fingerprint;
pub mod key;
pub mod redact;
pub mod secret;
pub mod template;
pub mod units;
pub mod value;

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    ops::Range,
    time::Duration,
};

use ipnet::IpNet;
use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use crate::expr::{CompileError, Expr};
use diagnostic::{Diagnostic, Place, Severity};
use key::{Get, Key, Need, Or};
use secret::Secret;

/// What is shared while files are read.
#[derive(Debug)]
pub struct Context {
    diagnostics: RefCell<Vec<Diagnostic>>,
    /// All that were read, for who takes them out of messages.
    secrets: RefCell<Vec<Secret>>,
    /// `network.allow`, once it is read.
    pub allow: OnceCell<Vec<IpNet>>,
    /// Whether secrets are read, or only their form is checked.
    pub resolve: bool,
    /// The keys of each table that was read.
    known: RefCell<BTreeMap<String, Vec<&'static str>>>,
    /// Keys that nobody took. They are told once all tables are known, since one may belong to another table.
    unknown: RefCell<Vec<Unknown>>,
}

/// A key that its table does not have.
#[derive(Debug)]
struct Unknown {
    key: String,
    place: Place,
    /// Of the table that it stands in.
    path: String,
    /// Of the table that was read: another one for a default.
    read: String,
}

impl Context {
    pub fn new(resolve: bool) -> Self {
        Self {
            diagnostics: RefCell::default(),
            secrets: RefCell::default(),
            allow: OnceCell::new(),
            resolve,
            known: RefCell::default(),
            unknown: RefCell::default(),
        }
    }

    pub fn report(&self, diagnostic: Diagnostic) {
        self.diagnostics.borrow_mut().push(diagnostic);
    }

    /// One more that no message may hold.
    pub fn keep_secret(&self, secret: &Secret) {
        self.secrets.borrow_mut().push(secret.clone());
    }

    /// All secrets of the file.
    pub fn take_secrets(&self) -> Vec<Secret> {
        self.secrets.take()
    }

    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        let known = self.known.into_inner();
        let mut all = self.diagnostics.into_inner();
        all.extend(self.unknown.into_inner().iter().map(|unknown| unknown.told(&known)));
        all
    }
}

impl Unknown {
    /// With what was most likely meant: its name here, the table that it belongs to, a key that is spelled nearly so, or all keys.
    fn told(&self, known: &BTreeMap<String, Vec<&'static str>>) -> Diagnostic {
        let Self { key, path, .. } = self;
        let mut own = known.get(&self.read).cloned().unwrap_or_default();
        own.sort_unstable();
        own.dedup();
        let help = advice::synonym(path, key)
            .map(|line| named(line, known))
            .or_else(|| self.elsewhere(known))
            .or_else(|| nearest(key, own.iter().copied()).map(|near| format!("did you mean `{near}`?")))
            .unwrap_or_else(|| {
                format!("known are {}", own.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", "))
            });
        let message = format!("unknown key `{key}` in {}", title(path));
        Diagnostic { help: Some(help), ..Diagnostic::error(self.place.clone(), message) }
    }

    /// The table around it or within it that has such a key: in TOML a key belongs to the heading above it.
    fn elsewhere(&self, known: &BTreeMap<String, Vec<&'static str>>) -> Option<String> {
        let Self { key, path, .. } = self;
        let has = |path: &str| known.get(path).is_some_and(|keys| keys.contains(&key.as_str()));
        let dots = path.rmatch_indices('.').map(|(dot, _)| path.get(..dot).unwrap_or_default());
        let around = dots.chain((!path.is_empty()).then_some("")).find(|above| has(above));
        if let Some(around) = around {
            return Some(format!("`{key}` belongs to {}: write it above [{path}]", title(around)));
        }
        let depth = |path: &str| path.matches('.').count();
        let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        // At the top only the daemon's own tables are meant, not some bridge's.
        let within = known.keys().filter(|below| {
            below.starts_with(&prefix) && *below != path && has(below) && (!path.is_empty() || depth(below) == 0)
        });
        let within = within.min_by_key(|below| depth(below))?;
        let way = within.strip_prefix(&prefix).unwrap_or(within);
        Some(format!("`{key}` belongs to [{within}]: write `{way}.{key}`"))
    }
}

/// A line with the name of the only bridge or endpoint there is in place of `NAME`.
fn named(line: String, known: &BTreeMap<String, Vec<&'static str>>) -> String {
    ["bridge", "endpoint"].into_iter().fold(line, |line, kind| {
        let names = known.keys().filter_map(|path| path.strip_prefix(kind)?.strip_prefix('.'));
        let mut names = names.filter(|name| !name.contains('.'));
        match (names.next(), names.next()) {
            (Some(name), None) => line.replace(&format!("[{kind}.NAME"), &format!("[{kind}.{name}")),
            _ => line,
        }
    })
}

/// A table being read: what is left in it at the end is unknown.
#[derive(Debug)]
pub struct Table<'a> {
    context: &'a Context,
    /// `bridge.orders.source.http`; empty at the top.
    pub path: String,
    pub place: Place,
    entries: Entries<'a>,
    known: Vec<&'static str>,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Item<'a> {
    context: &'a Context,
    pub path: String,
    pub place: Place,
    value: &'a DeValue<'a>,
    /// Defaults for tables below, by the way to them.
    defaults: Vec<(Vec<&'static str>, Entries<'a>)>,
}

type Entries<'a> = BTreeMap<&'a str, (Place, Item<'a>)>;

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn title(path: &str) -> String {
    if path.is_empty() { "the file".into() } else { format!("[{path}]") }
}

/// The kind of a value as messages name it.
fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'a> Table<'a> {
    /// One more that no message may hold, made of what is read here.
    pub fn keep_secret(&self, secret: &Secret) {
        self.context.keep_secret(secret);
    }

    pub fn new(context: &'a Context, path: String, place: Place, table: &'a DeTable<'a>) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| {
                let at = |span: Range<usize>| Place { file: place.file, span };
                let name: &'a str = key.get_ref();
                let item = Item {
                    context,
                    path: join(&path, name),
                    place: at(value.span()),
                    value: value.get_ref(),
                    defaults: Vec::new(),
                };
                (name, (at(key.span()), item))
            })
            .collect();
        Self { context, path, place, entries, known: Vec::new() }
    }

    /// A table that the file does not have.
    pub fn empty(context: &'a Context, path: String, place: Place) -> Self {
        Self { context, path, place, entries: Entries::new(), known: Vec::new() }
    }

    /// Adds keys that this table lacks; values stay where they were written.
    pub fn with_defaults(mut self, defaults: Option<&DefaultTable<'a>>) -> Self {
        // They keep their own path too: what is wrong with one is wrong once, not in every table that it fills.
        for (key, entry) in defaults.iter().flat_map(|d| &d.entries) {
            self.entries.entry(key).or_insert_with(|| entry.clone());
        }
        self
    }

    /// What a key says, or `None`: it is absent, or wrong, which is told then and refuses the whole file.
    pub fn get<T: Clone>(&mut self, key: &Get<T>) -> Option<T> {
        key.read(&self.item(key)?)
    }

    /// As [`get`](Self::get), of a key that must be there.
    pub fn need<T: Clone>(&mut self, key: &Need<T>) -> Option<T> {
        key.read(&self.need_item(key)?)
    }

    /// As [`need`](Self::need), of a key that others make necessary.
    pub fn need_now<T: Clone>(&mut self, key: &Get<T>, example: &'static str) -> Option<T> {
        let item = self.item(key);
        if item.is_none() {
            self.tell_missing(key.name, example);
        }
        key.read(&item?)
    }

    /// What a key says, or what counts otherwise.
    pub fn or<T: Clone>(&mut self, key: &Or<T>) -> T {
        self.item(key).and_then(|item| key.read(&item)).unwrap_or_else(|| key.default())
    }

    /// Takes a key's value out as it is.
    pub fn item<T, A>(&mut self, key: &Key<T, A>) -> Option<Item<'a>> {
        self.take(key.name)
    }

    /// As [`item`](Self::item), of a key that must be there.
    pub fn need_item<T>(&mut self, key: &Need<T>) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            self.tell_missing(key.name, key.example());
        }
        item
    }

    fn tell_missing(&self, key: &str, example: &str) {
        let message = format!("`{key}` is missing in {}", self.title());
        self.error(message).missing().help(format!("for example {example}")).report();
    }

    fn take(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        self.entries.remove(key).map(|(_, item)| item)
    }

    /// Where a key is written, when it is there.
    pub fn key_place<T, A>(&self, key: &Key<T, A>) -> Option<Place> {
        self.place_of(key.name)
    }

    /// As [`key_place`](Self::key_place), by the key's name.
    pub fn place_of(&self, key: &str) -> Option<Place> {
        self.entries.get(key).map(|(place, _)| place.clone())
    }

    /// Where a key is written, when it is there and no default of a table further up.
    pub fn own_key_place<T, A>(&self, key: &Key<T, A>) -> Option<Place> {
        let own = join(&self.path, key.name);
        self.entries.get(key.name).filter(|(_, item)| item.path == own).map(|(place, _)| place.clone())
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn has<T, A>(&self, key: &Key<T, A>) -> bool {
        self.entries.contains_key(key.name)
    }

    /// What is left, for tables whose keys are names.
    pub fn take_all(&mut self) -> Vec<(&'a str, Place, Item<'a>)> {
        std::mem::take(&mut self.entries).into_iter().map(|(key, (place, item))| (key, place, item)).collect()
    }

    /// Reads each kind that is there, in the order of the list; an error leaves `None` in its place.
    pub fn read_each<T>(&mut self, kinds: &[(&Get<()>, impl Fn(&mut Table<'_>) -> Option<T>)]) -> Vec<Option<T>> {
        let mut all = Vec::new();
        for (key, read) in kinds {
            if let Some(item) = self.item(key) {
                all.push(item.table().and_then(|mut table| {
                    let found = read(&mut table);
                    table.finish();
                    found
                }));
            }
        }
        all
    }

    /// Takes the one key of an externally tagged kind. Each stands beside what it means: a variant, or what reads it.
    pub fn kind<K: Copy>(&mut self, kinds: &[(&Get<()>, K)]) -> Option<(K, Item<'a>)> {
        let mut found = Vec::new();
        for (key, kind) in kinds {
            if let Some(place) = self.key_place(key) {
                found.extend(self.item(key).map(|item| (key.name, place, (*kind, item))));
            } else {
                self.known.push(key.name);
            }
        }
        let mut found = found.into_iter();
        let first = found.next();
        for (kind, place, _) in found {
            let already = first.as_ref().map_or("", |(first, ..)| *first);
            self.error_at(place, format!("`{kind}` stands beside `{already}` in {}", self.title()))
                .help("keep one of them".into())
                .report();
        }
        if first.is_none() && self.entries.is_empty() {
            let list = kinds.iter().map(|(key, _)| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ");
            self.error(format!("{} names no kind", self.title())).help(format!("one of {list}")).report();
        }
        first.map(|(_, _, found)| found)
    }

    /// `[bridge.orders]`, or the file.
    pub fn title(&self) -> String {
        title(&self.path)
    }

    pub fn error(&self, message: String) -> Report<'a> {
        self.error_at(self.place.clone(), message)
    }

    pub fn error_at(&self, place: Place, message: String) -> Report<'a> {
        Report { context: self.context, diagnostic: Diagnostic::error(place, message) }
    }

    pub fn warn_at(&self, place: Place, message: String, help: &str) {
        let warning = Diagnostic::error(place, message);
        self.context.report(Diagnostic { severity: Severity::Warning, help: Some(help.to_owned()), ..warning });
    }

    /// Fills keys of a table further down with defaults; where one is absent on the way, nothing is filled.
    pub fn fill_nested(&mut self, path: &[&'static str], defaults: &DefaultTable<'a>) {
        if let Some((first, rest)) = path.split_first()
            && let Some((_, item)) = self.entries.get_mut(first)
        {
            item.defaults.push((rest.to_vec(), defaults.entries.clone()));
        }
    }

    /// Adds the places of the strings within a key's value, by their text.
    pub fn names_of<T, A>(&mut self, key: &Key<T, A>, out: &mut BTreeMap<String, Place>) {
        if let Some(item) = self.item(key) {
            item.strings(out);
        }
    }

    /// Reports what nobody took.
    pub fn finish(self) {
        self.context.known.borrow_mut().entry(self.path.clone()).or_default().extend(&self.known);
        for (key, (place, item)) in &self.entries {
            let path = item.path.strip_suffix(key).unwrap_or(&self.path).trim_end_matches('.').to_owned();
            let unknown = Unknown { key: (*key).to_owned(), place: place.clone(), path, read: self.path.clone() };
            self.context.unknown.borrow_mut().push(unknown);
        }
    }
}

/// `defaults.bridge` and its like: keys to fill in, one level deep.
#[derive(Debug, Default)]
pub struct DefaultTable<'a> {
    entries: Entries<'a>,
}

impl<'a> DefaultTable<'a> {
    pub fn of(table: Table<'a>) -> Self {
        Self { entries: table.entries }
    }
}

/// An error being made; nothing is said before `report`.
#[derive(Debug)]
#[must_use = "call `report`"]
pub struct Report<'a> {
    context: &'a Context,
    diagnostic: Diagnostic,
}

impl Report<'_> {
    /// Something is absent.
    pub fn missing(mut self) -> Self {
        self.diagnostic.missing = true;
        self
    }

    /// What to change.
    pub fn help(mut self, help: String) -> Self {
        self.diagnostic.help = Some(help);
        self
    }

    /// Lines to show beneath, such as jq's own excerpt.
    pub fn excerpt(mut self, excerpt: String) -> Self {
        self.diagnostic.excerpt = Some(excerpt);
        self
    }

    /// A second place that matters.
    pub fn also(mut self, place: Place, label: &str) -> Self {
        self.diagnostic.also = Some((place, label.to_owned()));
        self
    }

    pub fn report(self) {
        self.context.report(self.diagnostic);
    }
}

/// The known word that a typo most likely meant.
pub fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    /// Jaro-Winkler similarity from which a word counts as meant; below, suggestions mislead.
    const NEAR: f64 = 0.8;
    let word = word.to_lowercase();
    known
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

impl<'a> Item<'a> {
    pub fn new(context: &'a Context, path: String, place: Place, value: &'a DeValue<'a>) -> Self {
        Self { context, path, place, value, defaults: Vec::new() }
    }

    pub fn context(&self) -> &'a Context {
        self.context
    }

    pub fn error(&self, message: String) -> Report<'a> {
        Report { context: self.context, diagnostic: Diagnostic::error(self.place.clone(), message) }
    }

    pub fn error_at(&self, place: Place, message: String) -> Report<'a> {
        Report { context: self.context, diagnostic: Diagnostic::error(place, message) }
    }

    fn strings(&self, out: &mut BTreeMap<String, Place>) {
        match self.value {
            DeValue::String(text) => drop(out.insert(text.to_string(), self.place.clone())),
            DeValue::Array(_) => self.items().iter().flatten().for_each(|item| item.strings(out)),
            DeValue::Table(_) => {
                let all = self.table().map(|mut t| t.take_all()).unwrap_or_default();
                all.iter().for_each(|(_, _, item)| item.strings(out));
            }
            _ => {}
        }
    }

    pub fn warn(&self, message: String, help: &str) {
        let diagnostic = Diagnostic {
            severity: Severity::Warning,
            help: Some(help.to_owned()),
            ..Diagnostic::error(self.place.clone(), message)
        };
        self.context.report(diagnostic);
    }

    fn expected(&self, what: &str) {
        let report = self.error(format!("`{}` must be {what}, not {}", self.path, type_name(self.value)));
        match advice::form(&self.path, self.value, what) {
            Some(help) => report.help(help).report(),
            None => report.report(),
        }
    }

    pub fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    pub fn is_string(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    pub fn string(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => {
                self.expected("a string");
                None
            }
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(yes) => Some(*yes),
            _ => {
                self.expected("true or false");
                None
            }
        }
    }

    /// A whole number within a range.
    pub fn integer(&self, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.value else {
            self.expected("a whole number");
            return None;
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(n) if range.contains(&n) => Some(n),
            _ => {
                let upto = if *range.end() == u64::MAX { "or more".into() } else { format!("to {}", range.end()) };
                self.error(format!("`{}` must be {} {upto}, not {number}", self.path, range.start())).report();
                None
            }
        }
    }

    /// A share from 0 to 1.
    pub fn share(&self) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => {
                self.expected("a number from 0 to 1");
                return None;
            }
        };
        let share = number.filter(|n: &f64| (0.0..=1.0).contains(n));
        if share.is_none() {
            self.error(format!("`{}` must be from 0 to 1", self.path))
                .help("0.5 is half of the known records".into())
                .report();
        }
        share
    }

    pub fn duration(&self) -> Option<Duration> {
        self.parse_text(units::duration, "a duration such as \"30s\"")
    }

    /// A duration that is more than nothing: a deadline or a wait.
    pub fn some_duration(&self) -> Option<Duration> {
        let duration = self.duration()?;
        if duration.is_zero() {
            self.error(format!("`{}` must be more than 0", self.path)).report();
            return None;
        }
        Some(duration)
    }

    pub fn size(&self) -> Option<u64> {
        self.parse_text(units::size, "a size such as \"32MiB\"")
    }

    /// A string that `parse` makes sense of, or its error.
    pub fn parse_text<T, E: std::fmt::Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
        what: &str,
    ) -> Option<T> {
        let DeValue::String(text) = self.value else {
            self.expected(what);
            return None;
        };
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(format!("`{}`: {error}", self.path)).report();
                None
            }
        }
    }

    /// One of some words.
    pub fn word<T: Clone>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
        if found.is_none() {
            let list = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
            let report = self.error(format!("`{}` must be one of {list}, not {text:?}", self.path));
            match nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(near) => report.help(format!("did you mean \"{near}\"?")).report(),
                None => report.report(),
            }
        }
        found
    }

    pub fn items(&self) -> Option<Vec<Item<'a>>> {
        let DeValue::Array(list) = self.value else {
            self.expected("a list");
            return None;
        };
        let item = |(index, value): (usize, &'a toml::Spanned<DeValue<'a>>)| Item {
            context: self.context,
            path: format!("{}[{index}]", self.path),
            place: Place { file: self.place.file, span: value.span() },
            value: value.get_ref(),
            defaults: Vec::new(),
        };
        Some(list.iter().enumerate().map(item).collect())
    }

    pub fn table(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(table) => {
                let mut table = Table::new(self.context, self.path.clone(), self.place.clone(), table);
                for (path, entries) in &self.defaults {
                    let defaults = DefaultTable { entries: entries.clone() };
                    if path.is_empty() {
                        table = table.with_defaults(Some(&defaults));
                    } else {
                        table.fill_nested(path, &defaults);
                    }
                }
                Some(table)
            }
            _ => {
                self.expected("a table");
                None
            }
        }
    }

    /// A jq program, compiled; its error is placed here, with the excerpt.
    pub fn expr(&self) -> Option<Expr> {
        self.compiled(Expr::parse)
    }

    /// As [`expr`](Self::expr), of one that runs over a page of an answer: it sees `$headers` and `$status`.
    pub fn expr_over_answer(&self) -> Option<Expr> {
        self.compiled(Expr::parse_over_answer)
    }

    /// As [`expr`](Self::expr), of one that makes the request of each page: it sees `$page`.
    pub fn expr_over_pages(&self) -> Option<Expr> {
        self.compiled(Expr::parse_over_pages)
    }

    fn compiled(&self, parse: fn(&str) -> Result<Expr, CompileError>) -> Option<Expr> {
        let text = self.string()?;
        match parse(text) {
            Ok(expr) => Some(expr),
            Err(error) => {
                let meant = advice::jq(&self.path, text, parse);
                // A near name among jq's functions misleads where a field was meant.
                let help = match error.message.starts_with("undefined filter") {
                    true => meant.or(error.help),
                    false => error.help.or(meant),
                };
                let report = self.error(format!("`{}`: {}", self.path, error.message)).excerpt(error.excerpt);
                match help {
                    Some(help) => report.help(help).report(),
                    None => report.report(),
                }
                None
            }
        }
    }

    /// The value as JSON, as `json` bodies need it; dates become strings.
    pub fn json(&self) -> Option<Json> {
        to_json(self.value).or_else(|| {
            self.error(format!("`{}` holds a number that JSON cannot", self.path)).report();
            None
        })
    }

    /// A string, number or boolean as text.
    pub fn scalar(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => Some(number.to_string()),
            DeValue::Float(number) => Some(number.to_string()),
            DeValue::Boolean(yes) => Some(yes.to_string()),
            _ => None,
        }
    }

    pub fn type_name(&self) -> &'static str {
        type_name(self.value)
    }
}

fn to_json(value: &DeValue<'_>) -> Option<Json> {
    Some(match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Integer(number) => Json::Number(i64::from_str_radix(number.as_str(), number.radix()).ok()?.into()),
        DeValue::Float(number) => Json::Number(serde_json::Number::from_f64(number.as_str().parse().ok()?)?),
        DeValue::Boolean(yes) => Json::Bool(*yes),
        DeValue::Datetime(date) => Json::String(date.to_string()),
        DeValue::Array(list) => Json::Array(list.iter().map(|v| to_json(v.get_ref())).collect::<Option<_>>()?),
        DeValue::Table(table) => {
            let pairs = table.iter().map(|(k, v)| Some((k.get_ref().to_string(), to_json(v.get_ref())?)));
            Json::Object(pairs.collect::<Option<_>>()?)
        }
    })
}
