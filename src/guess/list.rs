//! Which part of a document is the list, and what tells its records apart.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::{Map, Value as Json};

use super::{Because, more::More, text::within};

/// How deep a list may stand; a SOAP envelope alone is three deep.
const DEPTH_MAX: usize = 6;
/// What a list is called, where several could be meant.
const LIST_NAMES: [&str; 17] = [
    "items",
    "data",
    "results",
    "result",
    "records",
    "entries",
    "rows",
    "list",
    "value",
    "values",
    "objects",
    "nodes",
    "elements",
    "content",
    "hits",
    "documents",
    "resources",
];
/// A list with such a name counts so many times its bytes against another.
const NAMED_TIMES: usize = 4;
/// So many fields beside a list that is no more than half of the document: the document is the record.
const FIELDS_BESIDE: usize = 3;
/// Two maps that share this part of their fields are records of one kind.
const SHARED_PERCENT: usize = 50;
/// Fields that are tried in pairs, where none is enough alone.
const PAIRED_MAX: usize = 12;
/// How deep a key may stand in its record.
const KEY_DEPTH_MAX: usize = 2;
/// What a list is like that has no record yet.
const KEY_OF_EMPTY: &str = ".id";

/// The records of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct List {
    /// `None`: the document is one record.
    pub items: Because<Option<String>>,
    /// There with `items`.
    pub key: Option<Because<String>>,
    pub records: Vec<Json>,
    /// Other lists that could be meant, as `items`.
    pub others: Vec<String>,
}

impl List {
    /// Of a document. `moving` are fields that are another one in each read, and no keys.
    pub fn of(document: &Json, moving: &BTreeSet<String>) -> Self {
        let mut found = Vec::new();
        look(document, &mut Way::default(), &mut found);
        let bytes = document.to_string().len();
        found.retain(|candidate| !candidate.is_beside(document, bytes));
        // The first of equals: what stands further up comes first.
        found.sort_by_key(|candidate| (std::cmp::Reverse(candidate.weight), candidate.depth));
        let mut all = found.into_iter();
        let Some(best) = all.next() else { return Self::document(document, "no list of records stands in it") };
        let mut others: Vec<String> = all.map(|candidate| candidate.items).collect();
        match best.key(moving) {
            Some(key) => {
                let (count, what) = (best.records.len(), best.what);
                let also = if others.is_empty() { "" } else { ", the largest" };
                let why = format!("{what}{also}: {}", counted(count, "record"));
                let items = Because::new(Some(best.items), why);
                let records = best.records.into_iter().map(Cow::into_owned).collect();
                Self { items, key: Some(key), records, others }
            }
            None => {
                others.insert(0, best.items);
                let why = "no field, and no two together, tell the records of its list apart";
                Self { others, ..Self::document(document, why) }
            }
        }
    }

    fn document(document: &Json, why: &str) -> Self {
        Self {
            items: Because::new(None, why.to_owned()),
            key: None,
            records: vec![document.clone()],
            others: Vec::new(),
        }
    }
}

/// `1 record`, `30 records`.
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// From the root to a value.
#[derive(Debug, Clone, Default)]
struct Way {
    path: String,
    names: Vec<String>,
}

impl Way {
    fn last(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// The path of what stands behind it, such as `[]`.
    fn then(&self, what: &str) -> String {
        if self.path.is_empty() { format!(".{what}") } else { format!("{}{what}", self.path) }
    }
}

/// A list that could be meant.
#[derive(Debug, Clone)]
struct Candidate<'d> {
    items: String,
    /// In words.
    what: &'static str,
    name: String,
    depth: usize,
    bytes: usize,
    weight: usize,
    records: Vec<Cow<'d, Json>>,
    /// Of a map whose records do not hold their own key.
    key: Option<Because<String>>,
}

fn is_list_name(name: &str) -> bool {
    LIST_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Gathers what could be the list, in a document's own order.
fn look<'d>(value: &'d Json, way: &mut Way, found: &mut Vec<Candidate<'d>>) {
    let candidate = match value {
        Json::Array(list) => of_array(list, way),
        Json::Object(map) => of_map(map, way),
        _ => None,
    };
    if let Some((items, what, records, key)) = candidate {
        let (bytes, name) = (value.to_string().len(), way.last().to_owned());
        let weight = bytes * if is_list_name(&name) || way.names.is_empty() { NAMED_TIMES } else { 1 };
        found.push(Candidate { items, what, name, depth: way.names.len(), bytes, weight, records, key });
        return;
    }
    if let (Json::Object(map), true) = (value, way.names.len() < DEPTH_MAX) {
        for (name, inner) in map {
            let path = way.path.clone();
            way.path = within(&path, name);
            way.names.push(name.clone());
            look(inner, way, found);
            way.names.pop();
            way.path = path;
        }
    }
}

type Rows<'d> = (String, &'static str, Vec<Cow<'d, Json>>, Option<Because<String>>);

fn of_array<'d>(list: &'d [Json], way: &Way) -> Option<Rows<'d>> {
    if list.is_empty() {
        let is_likely = way.names.is_empty() || is_list_name(way.last());
        return is_likely.then(|| (way.then("[]"), "an empty list", Vec::new(), None));
    }
    // A Relay connection: the record is the edge's node.
    if list.iter().all(|edge| edge.get("node").is_some_and(Json::is_object)) {
        let nodes = list.iter().filter_map(|edge| edge.get("node")).map(Cow::Borrowed).collect();
        return Some((way.then("[].node"), "a list of edges", nodes, None));
    }
    let records = || list.iter().map(Cow::Borrowed).collect();
    if list.iter().all(Json::is_object) {
        return Some((way.then("[]"), "a list", records(), None));
    }
    let is_scalar = |value: &Json| value.is_number() || value.as_str().is_some_and(|text| !text.is_empty());
    let distinct = list.iter().map(Json::to_string).collect::<BTreeSet<_>>().len() == list.len();
    let is_meant = way.names.is_empty() || is_list_name(way.last());
    if is_meant && distinct && list.iter().all(is_scalar) {
        let key = Because::new(".".into(), "each value is its own key".into());
        return Some((way.then("[]"), "a list of values", records(), Some(key)));
    }
    None
}

/// A map of records by their ids.
fn of_map<'d>(map: &'d Map<String, Json>, way: &Way) -> Option<Rows<'d>> {
    let records: Vec<&Map<String, Json>> = map.values().map(Json::as_object).collect::<Option<_>>()?;
    // Of two maps side by side the names are most often those of fields.
    let is_id = |name: &String| name.contains(|c: char| c.is_ascii_digit() || c == '-' || c == '/');
    let is_many = records.len() >= 3 || records.len() == 2 && map.keys().all(is_id);
    if !is_many || More::is_place(way.last()) || records.iter().any(|record| record.is_empty()) {
        return None;
    }
    let all: BTreeSet<&String> = records.iter().flat_map(|record| record.keys()).collect();
    let shared = all.iter().filter(|name| records.iter().all(|record| record.contains_key(**name))).count();
    let is_of_links = all.iter().all(|name| matches!(name.as_str(), "href" | "templated" | "title" | "rel"));
    if shared * 100 < all.len() * SHARED_PERCENT || is_of_links {
        return None;
    }
    let values: Vec<Cow<'d, Json>> = map.values().map(Cow::Borrowed).collect();
    if key_of(&values, way.last(), &BTreeSet::new()).is_some_and(|(rank, _)| rank < UNNAMED) {
        return Some((way.then("[]"), "a map of records", values, None));
    }
    let entry = |(key, value): (&String, &Json)| Cow::Owned(serde_json::json!({ "key": key, "value": value }));
    let items = match way.path.as_str() {
        "" => "to_entries[]".to_owned(),
        path => format!("{path} | to_entries[]"),
    };
    let key = Because::new(".key".into(), "the records stand under their keys".into());
    Some((items, "a map of records by their keys", map.iter().map(entry).collect(), Some(key)))
}

impl Candidate<'_> {
    /// Whether the list is a part of one record, which is the document.
    fn is_beside(&self, document: &Json, document_bytes: usize) -> bool {
        let Some(top) = document.as_object() else { return false };
        let fields = top.iter().filter(|(name, value)| !value.is_array() && !More::is_place(name)).count();
        let is_part = !is_list_name(&self.name) && self.bytes * 2 < document_bytes && fields >= FIELDS_BESIDE;
        is_part || is_error(document)
    }

    fn key(&self, moving: &BTreeSet<String>) -> Option<Because<String>> {
        if let Some(key) = &self.key {
            return Some(key.clone());
        }
        if self.records.is_empty() {
            return Some(Because::new(
                KEY_OF_EMPTY.into(),
                "no record was there to look at: edit it if it is not so".into(),
            ));
        }
        key_of(&self.records, &self.name, moving).map(|(_, key)| key).or_else(|| pair_of(&self.records, moving))
    }
}

/// Whether a document says nothing but what went wrong.
pub(super) fn is_error(document: &Json) -> bool {
    let Some(map) = document.as_object() else { return false };
    let said = |name: &str| map.get(name).is_some_and(|value| !matches!(value, Json::Null | Json::Bool(false)));
    let is_about = |name: &String| {
        let known =
            ["error", "errors", "message", "code", "status", "statuscode", "ok", "success", "detail", "details"];
        known.contains(&name.to_ascii_lowercase().replace(['_', '-'], "").as_str())
            || map.get(name).is_some_and(Json::is_null)
    };
    (said("error") || said("errors")) && map.keys().all(is_about)
}

/// From here a field is a key by its values alone.
const UNNAMED: usize = 40;
/// What a key within another object costs.
const NESTED: usize = 10;
/// The same, where the object is the record itself, in a wrapping.
const WRAPPED: usize = 5;
/// Objects that wrap a record.
const WRAPPINGS: [&str; 9] =
    ["node", "item", "resource", "data", "attributes", "properties", "fields", "metadata", "record"];

/// How much a name sounds like a key; less is more.
fn rank(name: &str, list: &str) -> usize {
    let plain = name.trim_start_matches(['@', '_', '$']).to_ascii_lowercase().replace(['_', '-'], "");
    let own = list.to_ascii_lowercase().replace(['_', '-'], "");
    // `transaction_id` in `transactions`, `transaction_info` and `transaction_details`.
    let stem = plain.strip_suffix("id").filter(|stem| stem.len() > 2);
    let is_own = stem.is_some_and(|stem| own.starts_with(stem.trim_end_matches('y')));
    match plain.as_str() {
        "id" => 0,
        "uuid" | "guid" | "gid" | "sid" | "uid" | "urn" => 1,
        _ if is_own => 2,
        "key" | "sku" | "slug" | "handle" | "number" => 3,
        _ if stem.is_some() && (name.ends_with("Id") || name.ends_with("ID") || name.ends_with("_id")) => 4,
        "reference" | "ref" | "code" | "symbol" => 5,
        "name" | "email" | "username" | "login" | "hostname" => 6,
        "ts" | "dt" | "url" | "link" | "href" | "path" | "title" | "filename" => 7,
        "time" | "timestamp" | "date" | "datetime" => 8,
        _ => UNNAMED,
    }
}

/// A field of records, with its value in each of them.
struct Field {
    path: String,
    rank: usize,
    /// As text, such as it goes into a key; `None` where it is absent or cannot be one.
    values: Vec<Option<String>>,
}

impl Field {
    fn is_in_all(&self) -> bool {
        self.values.iter().all(Option::is_some)
    }

    /// A measure, which moves.
    fn is_fraction(&self) -> bool {
        self.values.iter().flatten().any(|value| value.contains('.') && value.parse::<f64>().is_ok())
    }

    fn is_unique(&self) -> bool {
        self.values.iter().collect::<BTreeSet<_>>().len() == self.values.len()
    }
}

/// The fields of all records, with the best names first.
fn fields(records: &[Cow<'_, Json>], list: &str, moving: &BTreeSet<String>) -> Vec<Field> {
    let mut all: Vec<Field> = Vec::new();
    let Some(Json::Object(first)) = records.first().map(AsRef::as_ref) else { return all };
    /// The path of an object within a record, what its fields rank behind others, its names, and itself.
    type Way<'r> = (String, usize, Vec<&'r str>, &'r Map<String, Json>);
    let mut ways: Vec<Way<'_>> = vec![(String::new(), 0, Vec::new(), first)];
    while let Some((path, extra, names, map)) = ways.pop() {
        for (name, value) in map {
            let mut way = names.clone();
            way.push(name);
            let path = within(&path, name);
            match value {
                Json::Object(inner) if way.len() <= KEY_DEPTH_MAX => {
                    let plain = name.to_ascii_lowercase();
                    let stem = list.get(..4).unwrap_or(list).to_ascii_lowercase();
                    let wraps = WRAPPINGS.contains(&plain.as_str()) || !stem.is_empty() && plain.starts_with(&stem);
                    ways.push((path, extra + if wraps { WRAPPED } else { NESTED }, way, inner));
                }
                Json::String(_) | Json::Number(_) | Json::Null if !moving.contains(&path) => {
                    let values = records.iter().map(|record| text(record, &way)).collect();
                    all.push(Field { path, rank: rank(name, list) + extra, values });
                }
                _ => {}
            }
        }
    }
    all.sort_by(|a, b| (a.rank, &a.path).cmp(&(b.rank, &b.path)));
    all
}

fn text(record: &Json, way: &[&str]) -> Option<String> {
    let value = way.iter().try_fold(record, |value, name| value.get(name))?;
    match value {
        Json::String(text) if text.is_empty() => None,
        Json::String(text) => Some(text.clone()),
        Json::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The best field that every record has, and no two share; with its rank.
fn key_of(records: &[Cow<'_, Json>], list: &str, moving: &BTreeSet<String>) -> Option<(usize, Because<String>)> {
    let all = fields(records, list, moving);
    // What one record has says nothing: there only a name does.
    let is_meant = |field: &&Field| field.rank < UNNAMED || records.len() > 1 && !field.is_fraction();
    let found = all.iter().filter(is_meant).find(|field| field.is_in_all() && field.is_unique())?;
    let passed = all.iter().find(|field| field.rank < found.rank && field.rank < NESTED);
    let unlike = passed.map(|field| {
        let missing = field.values.iter().filter(|value| value.is_none()).count();
        let what = if missing > 0 { format!("missing in {missing}") } else { "not unique".to_owned() };
        format!("; `{}` is {what}", field.path)
    });
    let why = match records.len() {
        1 => "by its name: there is one record to look at".to_owned(),
        2 => "another in each of both records".to_owned(),
        count => format!("unique in all {count} records"),
    };
    Some((found.rank, Because::new(found.path.clone(), why + &unlike.unwrap_or_default())))
}

/// Two fields that together tell records apart.
fn pair_of(records: &[Cow<'_, Json>], moving: &BTreeSet<String>) -> Option<Because<String>> {
    if records.len() < 2 {
        return None;
    }
    let all: Vec<Field> = fields(records, "", moving).into_iter().filter(Field::is_in_all).take(PAIRED_MAX).collect();
    let pairs =
        all.iter().enumerate().flat_map(|(at, first)| all.iter().skip(at + 1).map(move |second| (first, second)));
    let mut unique =
        pairs.filter(|(a, b)| a.values.iter().zip(&b.values).collect::<BTreeSet<_>>().len() == records.len());
    let (first, second) = unique.next()?;
    let why = format!("no field alone is unique; these two together are, in all {} records", records.len());
    Some(Because::new(format!("[{}, {}]", first.path, second.path), why))
}
