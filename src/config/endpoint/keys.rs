//! The keys of `[endpoint.NAME]`, and of the tables within it that no other part reads.

use std::{borrow::Cow, time::Duration};

use reqwest::{Method, header::HeaderName};

use super::{
    DISABLE_AFTER, DeliveryOrder, IN_FLIGHT, KEEP, METHODS, PROBE_MAX, QUEUE_MAX, QueueFull, RETRY_SCHEDULE, Retry,
    TIMEOUT, Verb, body::bodies, read_method, read_schedule, read_url,
};
use crate::{
    auth::{self, Auth},
    config::bridge::keys::filters,
    expr::Expr,
    http::{identity::identity, target},
    model::Name,
    settings::{
        key::{keys, names},
        units::{self, Rate},
        value::{VALUES, Value},
    },
    sign::{Signer, sign},
    source::http::STATUSES,
};

const METHOD_NAMES: [&str; METHODS.len()] = names(&METHODS);
const ORDERS: [(&str, DeliveryOrder); 3] =
    [("key", DeliveryOrder::Key), ("bridge", DeliveryOrder::Bridge), ("none", DeliveryOrder::None)];
const QUEUE_FULLS: [(&str, QueueFull); 2] = [("dead", QueueFull::Dead), ("pause", QueueFull::Pause)];

keys! {
    /// Where webhooks go, how they are signed, and how long they are tried.
    mod endpoint;
    /// A string, a secret (if knowing the URL is what gives access), or `{ jq = "..." }` over the event. If jq makes it, outages,
    /// waits and budgets are those of the URL's origin, and 410 makes that event a dead letter at once and disables nothing. At most
    /// 100 origins are waited for; events of further ones wait for themselves. A login that fails still holds all. `status` shows
    /// the origins that are down. jq of `url`, `query`, `headers`, `method`, `payload` and `when` sees the event with
    /// its id as `.id`, which `webhook-id` has; in a batch each event has its own.
    need URL: Value = "url", Form::new(Shape::OneOf(&[Shape::Text, Shape::Secret, Shape::Jq]), read_url),
        "url = \"https://example.com/hooks\"";
    /// `false`: events queue up and wait.
    or ENABLED: bool = "enabled", BOOLEAN, || true;
    /// The endpoint's old name: the endpoint takes over the old name's queue, dead letters and health.
    get WAS: Name = "was", NAME;
    /// See [Signatures](receiving.md#signatures); an endpoint may have several kinds.
    maybe SIGN: Signer = "sign", Form::table(&sign::FAMILY, Signer::read),
        "none; `check` warns if the endpoint has no credential either";
    /// `"POST"`, `"PUT"`, `"PATCH"`, `"GET"`, `"DELETE"`, or `{ jq = "..." }` over the event that gives one of these. GET and DELETE
    /// have no body and no `content-type`; what is signed then is an empty body. Another result of jq refuses the event.
    or METHOD: Verb = "method",
        Form::shown_by(
            Shape::OneOf(&[Shape::Words(Cow::Borrowed(&METHOD_NAMES)), Shape::Jq]),
            read_method,
            |_| "POST".into(),
        ),
        || Verb::Fixed(Method::POST);
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
    + bodies::FAMILY;
    + identity::FAMILY;
    + filters::FAMILY;
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
