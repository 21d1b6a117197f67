//! What a request to an endpoint holds: its form, what jq makes of events, batches, and secrets in it.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName};

use crate::{
    expr::Expr,
    settings::{Item, Table, key::keys, secret::Secret, units, value::Value},
};

const BODY_MAX: u64 = 1 << 20;
/// Events of one batch, at the most: each leaves an attempt in the store.
const BATCH_MAX: u64 = 1000;
/// A digest of a day.
const BATCH_WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const BATCH_WAIT: Duration = Duration::from_secs(1);

/// Of a word that a secret takes the place of.
const INJECT_CHARS_MIN: usize = 6;

const FORMATS: [(&str, Format); 6] = [
    ("standard", Format::Standard),
    ("cloudevents", Format::CloudEvents),
    ("cloudevents-binary", Format::CloudEventsBinary),
    ("form", Format::Form),
    ("text", Format::Text),
    ("ndjson", Format::NdJson),
];

keys! {
    /// What a request holds.
    mod bodies;
    /// `"standard"`, `"cloudevents"` (1.0, structured), `"cloudevents-binary"`, `"form"` (`application/x-www-form-urlencoded`),
    /// `"text"` (`text/plain`: the string that `payload` makes, as it is), `"ndjson"` (`application/x-ndjson`: a line of JSON for
    /// each event; a string that `payload` makes is its line, or its lines, as it is). With a `content-type` in `headers` that is
    /// not JSON, `"standard"` sends a string as it is, too. A signature covers id, time and body: with `"cloudevents-binary"` the
    /// `ce-` headers (`ce-type`, `ce-subject`) are not signed, so whatever the receiver relies on belongs in the body.
    or FORMAT: Format = "format", Form::words(&FORMATS), || Format::Standard;
    /// jq over the event with one output: what to send instead, as JSON; with CloudEvents the output is the `data`, with `"form"`
    /// an object whose fields are sent. A `payload` in a bridge's `to` overrules this one.
    maybe PAYLOAD: Expr = "payload", EXPR, "the event";
    /// What operational events look like here. `false`: events about bellpull itself never come here; `endpoint test` then sends a
    /// sample of an update. `check` warns where the alarms of a bridge or the heartbeat go only to endpoints that cannot hear them.
    maybe OPERATIONAL: Operational = "operational",
        Form::new(Shape::OneOf(&[Shape::Boolean, Shape::Table(&operational::FAMILY)]), read_operational), "as they are";
    /// `"thin"`: the changed paths instead of `before`, `after` and `patch`.
    or BODY: bool = "body", Form::words(&[("full", false), ("thin", true)]), || false;
    /// A larger body is sent thin too, and `payload` then sees the thin event; if the payload is still too large, the event is a
    /// dead letter.
    or BODY_MAX: u64 = "body-max", SIZE, || super::BODY_MAX;
    /// Several events in one request: an array of them, in order. It stays under `body-max`. A refused event is sent alone, so
    /// that one bad event does not take others with it.
    get BATCH: () = "batch", Form::raw(Shape::Table(&batch::FAMILY));
    /// `true`: updates of one record that wait together become one: the first `before`, the last `after`, and the range of their
    /// numbers. If no change that counts remains, and none of them was ever sent, nothing is sent. A replayed event is sent alone.
    or COALESCE: bool = "coalesce", BOOLEAN, || false;
    /// Secrets in the body.
    get INJECT: () = "inject", Form::raw(Shape::Table(&inject_words::FAMILY));
}

keys! {
    /// What operational events look like here.
    mod operational;
    /// jq over an [operational event](receiving.md#operational-events) (`bellpull.*`) or a test, with one output: what to send
    /// instead. It is made at each attempt. Without it an operational event is sent as it is, also where there is a `payload`;
    /// `check` warns if a bridge's alarms go nowhere else.
    need PAYLOAD: Expr = "payload", EXPR,
        "operational.payload = '{ text: \"bellpull: \\(.type) \\(.data.error // .data.reason // \"\")\" }'";
}

keys! {
    /// Secrets in the body.
    mod inject_words;
    /// Words of 6 characters or more, and their secrets: `{ APP_TOKEN = { env = "TOKEN" } }`. At each attempt, before the body is
    /// signed, the secret takes the place of the word where a string of the JSON body, or a field of the form, is nothing but the
    /// word. A body that has the word twice is refused, so that a record that looks like the word gets nothing. A body without the
    /// word goes as it is. Only with `format = "standard"` or `"form"`, and with `batch` only beside `batch.payload`.
    need BODY: () = "body", Form::raw(Shape::Named(&Shape::Secret)), "inject.body = { API_TOKEN = { env = \"TOKEN\" } }";
}

keys! {
    /// Several events in one request.
    mod batch;
    /// The events of one request at the most: it is sent as soon as it is full.
    need MAX: usize = "max", count(1, BATCH_MAX), "batch = { max = 100, wait = \"1s\" }";
    /// How long its first event waits for more, at the most 24h.
    or WAIT: Duration = "wait",
        Form::shown_by(Shape::Duration, read_wait, |wait| units::spell(*wait).into()), || BATCH_WAIT;
    /// jq over the array, with what the endpoint's `payload` made of each event: it makes the whole body, a digest; with
    /// `format = "text"` a string. It is made at each attempt, and an error refuses the batch.
    get PAYLOAD: Expr = "payload", EXPR;
}

/// What becomes of events about bellpull itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Operational {
    /// They come as they are.
    #[default]
    Standard,
    /// What jq makes of them comes.
    Payload(Expr),
    /// They never come.
    Never,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Standard,
    /// CloudEvents 1.0, structured.
    CloudEvents,
    /// CloudEvents 1.0, attributes as headers.
    CloudEventsBinary,
    Form,
    /// The string that a payload makes, as it is.
    Text,
    /// A line of JSON for each event; a string is its line as it is.
    NdJson,
}

/// Several events in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub max: usize,
    /// How long the first one waits for more.
    pub wait: Duration,
}

/// What a request holds, as `Endpoint` has it.
pub(super) struct Body {
    pub format: Format,
    pub payload: Option<Expr>,
    pub operational: Operational,
    pub thin: bool,
    pub body_max: u64,
    pub batch: Option<Batch>,
    pub batch_payload: Option<Expr>,
    pub coalesce: bool,
}

impl Body {
    pub fn read(table: &mut Table<'_>) -> Self {
        let format = table.or(&bodies::FORMAT);
        let (payload, operational) = (table.get(&bodies::PAYLOAD), table.get(&bodies::OPERATIONAL).unwrap_or_default());
        let (thin, body_max) = (table.or(&bodies::BODY), table.or(&bodies::BODY_MAX));
        let (batch, batch_payload) = table.item(&bodies::BATCH).and_then(|item| read_batch(&item, format)).unzip();
        let (coalesce, batch_payload) = (table.or(&bodies::COALESCE), batch_payload.flatten());
        Self { format, payload, operational, thin, body_max, batch, batch_payload, coalesce }
    }

    pub fn warn_unsigned(&self, table: &Table<'_>) {
        if self.format == Format::CloudEventsBinary && self.payload.is_some() {
            let message = format!(
                "[{}]: of `cloudevents-binary` the `ce-` headers are not signed, and this `payload` has nothing of them",
                table.path
            );
            let help = "take format = \"cloudevents\", or put kind and key into `payload`";
            table.warn_at(table.place.clone(), message, help);
        }
    }
}

/// `false`, or a table with a `payload`.
fn read_operational(item: &Item<'_>) -> Option<Operational> {
    if !item.is_table() {
        if !item.boolean()? {
            return Some(Operational::Never);
        }
        let message = format!("`{}` is true, which is what it is without this key", item.path);
        item.error(message).help("leave it out, or `operational = false`: alarms never come here".into()).report();
        return None;
    }
    let mut table = item.table()?;
    let payload = table.need(&operational::PAYLOAD);
    table.finish();
    payload.map(Operational::Payload)
}

/// `inject.body`: words and their secrets.
pub(super) fn read_inject(item: &Item<'_>, body: &Body) -> Option<Vec<(String, Secret)>> {
    let mut table = item.table()?;
    let words = table.need_item(&inject_words::BODY);
    table.finish();
    let words = words?;
    let why = match body {
        Body { format: Format::Standard | Format::Form, batch: None, .. } => None,
        Body { format: Format::Standard, batch_payload: Some(_), .. } => None,
        Body { batch: Some(_), .. } => {
            Some("each event of a batch has the word: `batch.payload` makes one body of them")
        }
        _ => Some("secrets stand in bodies of `format = \"standard\"` and \"form\""),
    };
    if let Some(why) = why {
        words.error(format!("`{}`: {why}", words.path)).report();
        return None;
    }
    let read = |(word, place, item): (&str, _, Item<'_>)| {
        let secret = item.secret()?;
        if word.chars().count() < INJECT_CHARS_MIN {
            let message = format!("`{}`: a record may hold {word:?} by chance", item.path);
            let help = format!("take a word of {INJECT_CHARS_MIN} characters or more, such as \"API_TOKEN\"");
            item.error_at(place, message).help(help).report();
            return None;
        }
        Some((word.to_owned(), secret))
    };
    let all: Vec<_> = words.table()?.take_all().into_iter().map(read).collect();
    all.into_iter().collect()
}

/// Whether `headers` names a content type that is not JSON.
pub(super) fn is_plain(headers: &[(HeaderName, Value)]) -> bool {
    let mut types = headers.iter().filter(|(name, value)| *name == CONTENT_TYPE && value.is_constant());
    types.any(|(_, value)| value.fixed().iter().any(|text| !text.to_ascii_lowercase().contains("json")))
}

fn read_batch(item: &Item<'_>, format: Format) -> Option<(Batch, Option<Expr>)> {
    let mut table = item.table()?;
    let (max, wait) = (table.need(&batch::MAX), table.or(&batch::WAIT));
    let (has_payload, payload) = (table.has(&batch::PAYLOAD), table.get(&batch::PAYLOAD));
    table.finish();
    let help = match format {
        Format::Form | Format::CloudEventsBinary => "batches are for \"standard\", \"cloudevents\" and \"ndjson\"",
        Format::Text if !has_payload => "payload in `batch`, jq over the array of events, makes one text of them",
        Format::CloudEvents | Format::NdJson if has_payload => {
            "payload in `batch` is for \"standard\" and \"text\": there it makes the whole body"
        }
        _ => return Some((Batch { max: max?, wait }, payload)),
    };
    let why = if has_payload && matches!(format, Format::CloudEvents | Format::NdJson) {
        "the body of this `format` is not jq's to make"
    } else {
        "a request of this `format` holds one event"
    };
    item.error(format!("`{}`: {why}", item.path)).help(help.into()).report();
    None
}

fn read_wait(item: &Item<'_>) -> Option<Duration> {
    let wait = item.duration()?;
    if wait > BATCH_WAIT_MAX {
        item.error(format!("`{}` is over a day", item.path)).report();
        return None;
    }
    Some(wait)
}
