//! The keys of `[bridge.NAME]`, and of the tables within it that no other part reads.

use std::{borrow::Cow, time::Duration};

use super::{
    ALERT_AFTER, ALERT_REPEAT, Alert, BadRecords, CHANGES, DefinitionChanged, Deletes, FORGET_AFTER, FirstPoll, Route,
    Since, Unit, read_on, read_routes, read_until,
};
use crate::{
    config::each::{Each, each},
    expr::Expr,
    extract::records,
    guard::guards,
    http::place::{At, place},
    model::{ChangeKind, Name},
    schedule::schedule,
    settings::key::{keys, names},
    source::{Source, http::STATUSES, source},
};

const BAD_RECORDS_WORDS: [(&str, BadRecords); 2] = [("fail", BadRecords::Fail), ("keep", BadRecords::Keep)];
const FIRST_POLLS: [(&str, FirstPoll); 2] = [("baseline", FirstPoll::Baseline), ("emit", FirstPoll::Emit)];
const DEFINITION_CHANGES: [(&str, DefinitionChanged); 2] =
    [("diff", DefinitionChanged::Diff), ("rebaseline", DefinitionChanged::Rebaseline)];
const CHANGE_NAMES: [&str; CHANGES.len()] = names(&CHANGES);
const UNITS: [(&str, Unit); 3] = [("number", Unit::Number), ("time", Unit::Time), ("text", Unit::Text)];

keys! {
    /// What is polled, what counts as a change, and where it goes.
    mod bridge: Rule::Schema(
        r#"{ "dependencies": { "items": ["key"], "key": ["items"], "every": { "not": { "required": ["cron"] } } } }"#
    );
    /// `false`: checked, not polled.
    or ENABLED: bool = "enabled", BOOLEAN, || true;
    /// The bridge's old name: the bridge takes over the old name's snapshot, sequence and state, with `each` those of all
    /// members. A bridge that already has a snapshot keeps its own. Events that wait keep the old name. A bridge that leaves the
    /// file is kept for 30 days, and `status` names it.
    get WAS: Name = "was", NAME;
    /// [http](#sourcehttp), [graphql](#sourcegraphql), [soap](#sourcesoap), [grpc](#sourcegrpc),
    /// [websocket](#sourcewebsocket), [sse](#sourcesse) or [command](#sourcecommand).
    need SOURCE: Source = "source", Form::table(&source::FAMILY, |item| item.table().and_then(Source::read)),
        "source.http.url = \"https://api.example.com/orders\"";
    /// One bridge over a list: [below](#each).
    get EACH: Each = "each", Form::table(&each::FAMILY, Each::read);
    /// What happens if a record has no key or cannot be read (`key`, `ignore`, `unordered`, `deletes.when` or `since.from` fails on
    /// it). `"fail"`: the poll fails. `"keep"`: the record stays as it is stored, the others count, and `status` and the log tell
    /// it. If such a record has no key, nothing is deleted by that answer, because it may be any record that is missing. If no
    /// record of the answer can be read, the poll fails. Two records with one key still fail the poll. With `since`, a record that
    /// is left out comes again only when the source sends it again.
    or BAD_RECORDS: BadRecords = "bad-records", Form::words(&BAD_RECORDS_WORDS), || BadRecords::Fail;
    /// `"baseline"`: the first answer is stored without events; `"emit"`: each of its records is `created`.
    or FIRST_POLL: FirstPoll = "first-poll", Form::words(&FIRST_POLLS), || FirstPoll::Baseline;
    /// When a missing record counts as deleted.
    get DELETES: Deletes = "deletes", Form::table(&deletes::FAMILY, Deletes::read);
    /// `true`: the source shows only its newest records; a missing record is not deleted.
    maybe WINDOW: bool = "window", BOOLEAN, "`false`; `true` with `decode.feed` and `items`";
    /// How long a record that left a window stays known.
    or FORGET: Duration = "forget", DURATION, || FORGET_AFTER;
    /// Statuses that mean that the document is gone, such as `[404, 410]`; only without `items`.
    or ABSENT: Vec<u16> = "absent", STATUSES, Vec::new;
    /// Ask only for what is new: [below](#since).
    get SINCE: Since = "since", Form::table(&since::FAMILY, Since::read);
    /// Names of endpoints, or `{ endpoint, on, when, payload }`; for each endpoint the first entry whose filters match applies.
    need TO: Vec<Route> = "to",
        Form::new(Shape::Some(&Shape::OneOf(&[Shape::Text, Shape::Table(&route::FAMILY)])), read_routes),
        "to = [\"me\"]";
    /// When somebody is told that the bridge does not work.
    get ALERT: Alert = "alert", Form::table(&alert::FAMILY, Alert::read);
    /// After an edit of the source's request, pages (except `max`, `delay` and `total`) or decoder, or of `items`, `key`,
    /// `ignore`, `unordered`, `window`, `since` or `deletes.when`, the next answer is compared with the old snapshot under
    /// `guard.definition`; `"rebaseline"`: the next answer becomes the snapshot without events.
    or DEFINITION_CHANGED: DefinitionChanged = "definition-changed", Form::words(&DEFINITION_CHANGES),
        || DefinitionChanged::Diff;
    + schedule::FAMILY;
    + records::FAMILY;
    + guards::FAMILY;
    + filters::FAMILY;
}

keys! {
    /// When a missing record counts as deleted.
    mod deletes;
    /// `false`: sends no `deleted` events.
    or REPORT: bool = "report", BOOLEAN, || true;
    /// The number of complete polls in a row that must lack a record before it counts as deleted. An unchanged answer counts as
    /// a complete poll.
    maybe AFTER: u64 = "after", whole(1, 1000), "1; 2 if the source has `pages` or the walk had several";
    /// jq over a record: true if the record itself says that it is gone (a tombstone), such as `.deleted == true`. With `since`,
    /// `window` or `stop` such a record deletes its key at once, under `guard.deletes`, and is not kept; in a complete list it
    /// counts as missing.
    get WHEN: Expr = "when", EXPR;
}

keys! {
    /// Which events are sent.
    mod filters;
    /// Which changes become events: `["created", "updated", "deleted"]`.
    maybe ON: Vec<ChangeKind> = "on",
        Form::new(Shape::Some(&Shape::Words(Cow::Borrowed(&CHANGE_NAMES))), read_on), "all";
    /// jq over the event: only events for which it is true are sent.
    maybe WHEN: Expr = "when", EXPR, "all";
}

keys! {
    /// An endpoint with filters of its own.
    mod route;
    /// The endpoint's name.
    need ENDPOINT: Name = "endpoint", NAME, "endpoint = \"me\"";
    /// jq over the event, instead of the endpoint's `payload`.
    get PAYLOAD: Expr = "payload", EXPR;
    + filters::FAMILY;
}

keys! {
    /// When somebody is told that the bridge does not work.
    mod alert;
    /// Number of failed polls in a row before a `bellpull.bridge.failing` is sent.
    or AFTER: u64 = "after", whole(1, 1_000_000), || ALERT_AFTER;
    /// How often a lasting failure is reported again.
    or REPEAT: Duration = "repeat", SOME_DURATION, || ALERT_REPEAT;
    /// If no poll is accepted for this long, whether polls fail or are held: one `bellpull.bridge.stale`.
    maybe STALE_AFTER: Duration = "stale-after", SOME_DURATION, "3 intervals, at least `\"5m\"`";
    /// Where this bridge's operational events go.
    maybe TO: Vec<Name> = "to",
        Form::new(
            Shape::List(&Shape::Text),
            |item| item.items()?.iter().map(|item| item.string().map(Name::from)).collect(),
        ),
        "the endpoints of `to`";
}

keys! {
    /// Ask only for what is newer than a mark: `from` and `order`, or `token`. At most one of `param`, `header`, `json` and
    /// `variable`, and none if jq in the source's `url`, `query`, `headers` or body uses `.mark`.
    mod since: Rule::Schema(
        r#"{ "anyOf": [
            { "required": ["from", "order"], "not": { "required": ["token"] } },
            { "required": ["token"], "not": { "anyOf": [
                { "required": ["from"] }, { "required": ["order"] }, { "required": ["overlap"] }, { "required": ["max"] },
                { "required": ["window"] }, { "required": ["until"] }
            ] } }
        ], "dependencies": { "window": ["start"], "until": ["window"] }, "oneOf": [
            { "required": ["param"] }, { "required": ["header"] }, { "required": ["json"] }, { "required": ["variable"] },
            { "not": { "anyOf": [
                { "required": ["param"] }, { "required": ["header"] }, { "required": ["json"] }, { "required": ["variable"] }
            ] } }
        ] }"#
    );
    /// In `graphql`: the variable that carries the mark.
    get VARIABLE: String = "variable", TEXT;
    /// jq over the last page: an opaque mark, any JSON value that says how far the source was read, such as `.nextSyncToken` or
    /// `.last_seq`. It is committed with the snapshot. Null keeps the mark that is known; if none is known yet, the poll fails. Of
    /// a URL for the next poll (a delta link) make `url = { jq = '.mark // "https://..."' }`; it must stay on that origin.
    /// `$headers` and `$status` are those of the last page's answer: `'$headers["x-sync-token"]'`.
    get TOKEN: Expr = "token", EXPR_OVER_ANSWER;
    /// Statuses that say that the source does not know the mark any more, such as `[410]`: the poll asks from the start again, and
    /// compares what comes with what is known.
    get RESET: Vec<u16> = "reset", STATUSES;
    /// jq over each record: its mark. The highest mark is committed with the snapshot.
    maybe FROM: Expr = "from", EXPR, "required without `token`";
    /// `"number"` (whole numbers of any length), `"time"` (RFC 3339) or `"text"`. A time later than the answer's `Date` counts
    /// as that `Date`, and one that is more than a day later counts as none, which `status` tells.
    maybe ORDER: Unit = "order", Form::words(&UNITS), "required without `token`";
    /// The mark that is sent before there is one; in `json` it keeps its type.
    get START: () = "start", Form::raw(Shape::Scalar);
    /// How far before the mark to ask: a duration for `"time"`, a count for `"number"`. A source that gives only what is later than
    /// the mark would leave out a record that gets the mark's own time after a poll. The default is left out of a question whose
    /// predecessor had it and brought nothing new, so that a source that gives a few records at a time goes on.
    maybe OVERLAP: () = "overlap", Form::raw(Shape::OneOf(&[Shape::Duration, Shape::Whole(0, 4_294_967_295)])),
        "`\"1s\"` for `\"time\"`, `0` for `\"number\"`";
    /// The highest mark that counts: a number for `"number"`; for `"time"` an RFC 3339 time, or a duration ahead of now. A record
    /// beyond it moves no mark, and `status` tells it.
    maybe MAX: () = "max",
        Form::raw(Shape::OneOf(&[Shape::Duration, Shape::Time, Shape::Whole(0, 9_223_372_036_854_775_807)])),
        "a day ahead for `\"time\"`";
    /// For a source that takes only so long a time at once, with `order = "time"` and `start`: a poll asks from the mark until
    /// `window` later, or until now. If that brings no later mark, and its end is past, the end becomes the mark: so a poll goes
    /// on over a time without records. Until it has come to now, the next poll follows at once. The first window is the baseline.
    get WINDOW: Duration = "window", SOME_DURATION;
    /// Where the end of `window` goes: `param`, `header` or `json`. Not needed if jq of the request uses `.until`.
    get UNTIL: At = "until", Form::table(&until::FAMILY, read_until);
    + place::FAMILY;
}

keys! {
    /// Where the end of `window` goes.
    mod until;
    + place::FAMILY;
}
