//! The keys of `[endpoint.NAME]`, and of the tables within it that no other part reads.

use std::time::Duration;

use reqwest::{Method, header::HeaderName};

use super::{
    BATCH_MAX, BATCH_WAIT, BODY_MAX, DISABLE_AFTER, DeliveryOrder, Format, IN_FLIGHT, KEEP, PROBE_MAX, QUEUE_MAX,
    QueueFull, RETRY_SCHEDULE, Retry, TIMEOUT, read_operational, read_schedule, read_url, read_wait,
};
use crate::{
    auth::{self, Auth},
    config::bridge::keys::filters,
    expr::Expr,
    http::{identity::identity, target},
    model::Name,
    settings::{
        key::keys,
        units::{self, Rate},
        value::{VALUES, Value},
    },
    sign::{Signer, sign},
    source::http::STATUSES,
};

const FORMATS: [(&str, Format); 6] = [
    ("standard", Format::Standard),
    ("cloudevents", Format::CloudEvents),
    ("cloudevents-binary", Format::CloudEventsBinary),
    ("form", Format::Form),
    ("text", Format::Text),
    ("ndjson", Format::NdJson),
];
const METHODS: [(&str, Method); 3] = [("POST", Method::POST), ("PUT", Method::PUT), ("PATCH", Method::PATCH)];
const ORDERS: [(&str, DeliveryOrder); 3] =
    [("key", DeliveryOrder::Key), ("bridge", DeliveryOrder::Bridge), ("none", DeliveryOrder::None)];
const QUEUE_FULLS: [(&str, QueueFull); 2] = [("dead", QueueFull::Dead), ("pause", QueueFull::Pause)];

keys! {
    /// Where webhooks go, how they are signed, and how long they are tried.
    mod endpoint;
    /// A string, a secret (if knowing the URL is what gives access), or `{ jq = "..." }` over the event.
    need URL: Value = "url", Form::new(Shape::OneOf(&[Shape::Text, Shape::Secret, Shape::Jq]), read_url),
        "url = \"https://example.com/hooks\"";
    /// `false`: events queue up and wait.
    or ENABLED: bool = "enabled", BOOLEAN, || true;
    /// The endpoint's old name: the endpoint takes over the old name's queue, dead letters and health.
    get WAS: Name = "was", NAME;
    /// See [Signatures](receiving.md#signatures); an endpoint may have several kinds.
    maybe SIGN: Signer = "sign", Form::table(&sign::FAMILY, Signer::read),
        "none; `check` warns if the endpoint has no credential either";
    /// `"standard"`, `"cloudevents"` (1.0, structured), `"cloudevents-binary"`, `"form"` (`application/x-www-form-urlencoded`),
    /// `"text"` (`text/plain`: the string that `payload` makes, as it is), `"ndjson"` (`application/x-ndjson`: a line of JSON for
    /// each event; a string that `payload` makes is its line, or its lines, as it is). With a `content-type` in `headers` that is
    /// not JSON, `"standard"` sends a string as it is, too. A signature covers id, time and body: with `"cloudevents-binary"` the
    /// `ce-` headers (`ce-type`, `ce-subject`) are not signed, so whatever the receiver relies on belongs in the body.
    or FORMAT: Format = "format", Form::words(&FORMATS), || Format::Standard;
    /// jq over the event with one output: what to send instead, as JSON; with CloudEvents the output is the `data`, with `"form"`
    /// an object whose fields are sent. A `payload` in a bridge's `to` overrules this one.
    maybe PAYLOAD: Expr = "payload", EXPR, "the event";
    /// What operational events look like here.
    get OPERATIONAL: Expr = "operational", Form::table(&operational::FAMILY, read_operational);
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
    /// The method of the request.
    or METHOD: Method = "method", Form::words(&METHODS), || Method::POST;
    /// Strings, numbers, booleans, lists, secrets, `{ jq = "..." }` over the event; `webhook-...` headers cannot be replaced.
    get HEADERS: Vec<(HeaderName, Value)> = "headers", target::HEADERS;
    /// As `headers`, in the query.
    get QUERY: Vec<(String, Value)> = "query", VALUES;
    /// Credentials, as for [sources](#auth).
    get AUTH: Vec<Auth> = "auth", auth::ALL;
    /// `"key"`: the events of one record arrive in order, other records may overtake. `"bridge"`: all events of a bridge arrive in
    /// order. `"none"`: no order.
    or ORDER: DeliveryOrder = "order", Form::words(&ORDERS), || DeliveryOrder::Key;
    /// Requests at the same time.
    or IN_FLIGHT: usize = "in-flight", count(1, 1000), || super::IN_FLIGHT;
    /// Such as `"10/s"`, evenly spaced.
    get RATE: Rate = "rate", key::RATE;
    /// Limit for headers and body together; 64 KiB of the answer are read, 4 KiB kept.
    or TIMEOUT: Duration = "timeout", SOME_DURATION, || super::TIMEOUT;
    /// jq over an object of `status`, `headers` and `body` of a 2xx, for receivers that refuse inside a 200: a string or `true`
    /// says that the event was refused, `null` and `false` that it was delivered. The body is the JSON that it holds, otherwise
    /// text; 64 KiB of it are seen.
    get FAIL: Expr = "fail", EXPR;
    /// How long an event is tried, and what a receiver's answers mean.
    get RETRY: Retry = "retry", Form::table(&retry::FAMILY, Retry::read);
    /// How long an event is kept after it was committed, once all its endpoints have it; with several endpoints the longest
    /// `keep` counts.
    or KEEP: Duration = "keep", SOME_DURATION, || super::KEEP;
    /// Beyond it further events become dead letters at once, with a `bellpull.endpoint.full`.
    or QUEUE_MAX: usize = "queue-max", count(1, 100_000_000), || super::QUEUE_MAX;
    /// `"pause"`: beyond `queue-max` the bridges that feed this endpoint are not polled, and so send nothing to any endpoint,
    /// until there is room: a tenth of the queue. A disabled endpoint makes no room.
    or QUEUE_FULL: QueueFull = "queue-full", Form::words(&QUEUE_FULLS), || QueueFull::Dead;
    + identity::FAMILY;
    + filters::FAMILY;
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
    /// Several events in one request.
    mod batch;
    /// The events of one request at the most: it is sent as soon as it is full.
    need MAX: usize = "max", count(1, BATCH_MAX), "batch = { max = 100, wait = \"1s\" }";
    /// How long its first event waits for more, at the most 1h.
    or WAIT: Duration = "wait",
        Form::shown_by(Shape::Duration, read_wait, |wait| units::spell(*wait).into()), || BATCH_WAIT;
    /// jq over the array, with what the endpoint's `payload` made of each event: it makes the whole body, a digest; with
    /// `format = "text"` a string. It is made at each attempt, and an error refuses the batch.
    get PAYLOAD: Expr = "payload", EXPR;
}

keys! {
    /// How long an event is tried, and what a receiver's answers mean.
    mod retry;
    /// The waits between attempts; up to a fifth is added at random.
    or SCHEDULE: Vec<Duration> = "schedule",
        Form::shown_by(
            Shape::Some(&Shape::Duration),
            read_schedule,
            |all| all.iter().map(|wait| units::spell(*wait)).collect(),
        ),
        || RETRY_SCHEDULE.to_vec();
    /// The longest wait between probes of an endpoint that is down, however long the steps of the schedule are.
    or PROBE_MAX: Duration = "probe-max", SOME_DURATION, || super::PROBE_MAX;
    /// If nothing was delivered for this long while attempts failed, the endpoint is disabled. Time in which the daemon did not
    /// run does not count.
    or DISABLE_AFTER: Duration = "disable-after", SOME_DURATION, || super::DISABLE_AFTER;
    /// jq over an object of `status`, `headers` and `body` of each answer: for how many seconds the receiver wants no request,
    /// for receivers that say so in the body only (`".body.parameters?.retry_after?"`); nothing, `null` or `false` if the answer
    /// does not say.
    get WAIT: Expr = "wait", EXPR;
    /// Statuses that are an outage, such as `[404]` of a proxy in front of a receiver that restarts. No status may be in two of
    /// the three lists.
    or DOWN: Vec<u16> = "down", STATUSES, Vec::new;
    /// Statuses that are a delivery, such as `[409]` of a receiver that has the event already.
    or TAKEN: Vec<u16> = "taken", STATUSES, Vec::new;
    /// Statuses that refuse the event, such as `[503]` of a receiver that says so of single events, or `[410]` where one record is
    /// gone.
    or REFUSED: Vec<u16> = "refused", STATUSES, Vec::new;
}
