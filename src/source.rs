//! Sources: where a bridge's answer comes from. A kind is one file here and one line in [`Source`].
//!
//! A source asks and walks pages. It does not know what a record is, beyond how many a page has, and stores nothing.

pub mod command;
pub mod grpc;
pub mod http;
pub mod link;
pub mod page;
pub mod transport;
pub mod sse;
pub mod stream;
pub mod websocket;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use crate::{
    auth::{self, Auth, vault::Vault},
    clock::Clock,
    decode::Page,
    expr::{self, Said},
    http::{Client, budget::Share, place::At},
    model::{Hash, Mark, Timestamp, Validators},
    pulse::Pulse,
    schedule::FailureKind,
    settings::{
        Table,
        fingerprint::Fingerprint,
        key::{Get, keys},
        units::Rate,
    },
};

keys! {
    /// Where the answer comes from.
    mod source: Rule::Kind;
    /// A request over HTTP.
    get HTTP: () = "http", Form::raw(Shape::Table(&super::http::http::FAMILY));
    /// A GraphQL query.
    get GRAPHQL: () = "graphql", Form::raw(Shape::Table(&super::http::graphql::graphql::FAMILY));
    /// A call of a SOAP service.
    get SOAP: () = "soap", Form::raw(Shape::Table(&super::http::soap::soap::FAMILY));
    /// A call of a gRPC method.
    get GRPC: () = "grpc", Form::raw(Shape::Table(&super::grpc::grpc::FAMILY));
    /// A connection that stays.
    get WEBSOCKET: () = "websocket", Form::raw(Shape::Table(&super::websocket::websocket::FAMILY));
    /// Server-sent events of a stream that goes on.
    get SSE: () = "sse", Form::raw(Shape::Table(&super::sse::sse::FAMILY));
    /// A program whose standard output is the document.
    get COMMAND: () = "command", Form::raw(Shape::Table(&super::command::command::FAMILY));
}

/// Every kind of source.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Whatever is asked over HTTP: `http`, `graphql`, `soap`.
    Http(Arc<http::Source>),
    Websocket(Arc<websocket::Source>),
    Sse(Arc<sse::Source>),
    Command(Arc<command::Source>),
    Grpc(Arc<grpc::Source>),
}

impl Source {
    /// Reads `[bridge.NAME.source.KIND]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        type Read = fn(Table<'_>) -> Option<Source>;
        let kinds: [(&Get<()>, Read); 7] = [
            (&source::HTTP, |table| http::Source::read(table).map(|source| Self::Http(source.into()))),
            (&source::GRAPHQL, |table| http::graphql::read(table).map(|source| Self::Http(source.into()))),
            (&source::SOAP, |table| http::soap::read(table).map(|source| Self::Http(source.into()))),
            (&source::GRPC, |table| grpc::Source::read(table).map(|source| Self::Grpc(source.into()))),
            (&source::WEBSOCKET, |table| websocket::Source::read(table).map(|source| Self::Websocket(source.into()))),
            (&source::SSE, |table| sse::Source::read(table).map(|source| Self::Sse(source.into()))),
            (&source::COMMAND, |table| command::Source::read(table).map(|source| Self::Command(source.into()))),
        ];
        let found = table.kind(&kinds);
        table.finish();
        let (read, item) = found?;
        read(item.table()?)
    }

    /// Asks for everything: all pages, or why not.
    pub async fn fetch(&self, ask: Ask<'_>) -> Result<Fetched, Error> {
        match self {
            Self::Http(source) => source.fetch(ask).await,
            Self::Websocket(source) => source.fetch(ask).await,
            Self::Sse(source) => source.fetch(ask).await,
            Self::Command(source) => source.fetch(ask).await,
            Self::Grpc(source) => source.fetch(ask).await,
        }
    }

    /// Writes what the snapshot depends on: an edit of it makes validators void.
    pub fn define(&self, text: &mut Fingerprint) {
        match self {
            Self::Http(source) => source.define(text),
            Self::Websocket(source) => source.define(text),
            Self::Sse(source) => source.define(text),
            Self::Command(source) => source.define(text),
            Self::Grpc(source) => source.define(text),
        }
    }

    /// As 0.1.0 wrote it.
    pub fn definition_0_1(&self) -> String {
        match self {
            Self::Http(source) => source.definition_0_1(),
            Self::Websocket(source) => source.definition_0_1(),
            // 0.1.0 had none.
            Self::Sse(_) => String::new(),
            Self::Command(source) => source.definition_0_1(),
            Self::Grpc(source) => source.definition_0_1(),
        }
    }

    /// How long a poll may take until what it asks for has come.
    pub fn deadline(&self) -> Duration {
        match self {
            Self::Http(source) => source.transport.deadline,
            Self::Websocket(source) => source.transport.deadline,
            Self::Sse(source) => source.transport.deadline,
            Self::Command(source) => source.timeout(),
            Self::Grpc(source) => source.transport.deadline,
        }
    }

    /// The credentials of its requests.
    pub fn auth(&self) -> &[Auth] {
        match self {
            Self::Http(source) => &source.transport.auth,
            Self::Websocket(source) => &source.transport.auth,
            Self::Sse(source) => &source.transport.auth,
            Self::Command(_) => &[],
            Self::Grpc(source) => &source.transport.auth,
        }
    }

    /// The depth that an answer's nesting may have.
    pub fn depth_max(&self) -> usize {
        match self {
            Self::Http(source) => source.transport.depth_max,
            Self::Websocket(source) => source.transport.depth_max,
            Self::Sse(source) => source.transport.depth_max,
            Self::Command(_) => command::DEPTH_MAX,
            Self::Grpc(source) => source.transport.depth_max,
        }
    }

    /// The decoder that the file names.
    pub fn decoder(&self) -> Option<crate::decode::Decoder> {
        match self {
            Self::Http(source) => source.decode.clone(),
            Self::Websocket(source) => source.decoder(),
            Self::Sse(_) | Self::Grpc(_) => None,
            Self::Command(source) => source.decode.clone(),
        }
    }

    /// The origin that is asked, where it is always the same.
    pub fn origin(&self) -> Option<&str> {
        match self {
            Self::Http(source) => source.origin.as_deref(),
            Self::Grpc(source) => source.origin.as_deref(),
            // Its polls only look into a buffer.
            Self::Websocket(_) | Self::Sse(_) | Self::Command(_) => None,
        }
    }

    /// Whether a poll sends requests: others look into a buffer, or run a program.
    pub fn sends(&self) -> bool {
        matches!(self, Self::Http(_) | Self::Grpc(_))
    }

    /// The pace that the file sets for its origin.
    pub fn rate(&self) -> Option<Rate> {
        match self {
            Self::Http(source) => source.transport.rate,
            Self::Grpc(source) => source.transport.rate,
            Self::Websocket(_) | Self::Sse(_) | Self::Command(_) => None,
        }
    }

    /// The interval of a bridge that names none.
    pub fn every(&self) -> Option<Duration> {
        match self {
            Self::Websocket(_) | Self::Sse(_) => Some(stream::EVERY),
            Self::Http(_) | Self::Command(_) | Self::Grpc(_) => None,
        }
    }

    /// Whether a record that is not seen for long has left. Behind the page at which a walk stops it is only not asked for.
    pub fn forgets(&self) -> bool {
        !matches!(self, Self::Http(source) if !source.shows_all())
    }

    /// Whether an answer is a batch of messages, each of which stands for itself.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Websocket(_) | Self::Sse(_))
    }

    /// Whether the mark of `since` can be sent there.
    pub fn takes_mark(&self, at: &At) -> bool {
        match (self, at) {
            (Self::Http(source), at) => source.takes_mark(at),
            (Self::Grpc(_), at) => matches!(at, At::Json(_)),
            (Self::Websocket(_) | Self::Sse(_) | Self::Command(_), _) => false,
        }
    }

    /// jq over each message: how far a stream was read.
    pub fn resume(&self) -> Option<&expr::Expr> {
        match self {
            Self::Websocket(source) => source.resume.as_ref(),
            Self::Sse(source) => Some(&source.resume),
            Self::Http(_) | Self::Command(_) | Self::Grpc(_) => None,
        }
    }

    /// Why the body that the file gives lacks such a place, if it does.
    pub fn misfit(&self, at: &At) -> Option<String> {
        match self {
            Self::Http(source) => source.misfit(at),
            Self::Grpc(source) => source.misfit(at),
            Self::Websocket(_) | Self::Sse(_) | Self::Command(_) => None,
        }
    }

    /// Whether jq of the request uses a thing of this name, such as the mark.
    pub fn uses(&self, name: &str) -> bool {
        match self {
            Self::Http(source) => source.uses(name),
            Self::Grpc(source) => source.uses(name),
            Self::Websocket(_) | Self::Sse(_) | Self::Command(_) => false,
        }
    }

    /// Where it can be sent.
    pub fn mark_help(&self) -> &'static str {
        match self {
            Self::Http(_) => "`param` or `header`, `json` beside a JSON body, `variable` in graphql",
            Self::Grpc(_) => "`json`: a field of `request`",
            Self::Websocket(_) => "write `resume` in the source: jq over a message",
            Self::Sse(_) => "leave `since` out: the id of the last event is sent by itself",
            Self::Command(_) => "its jq sees `mark` in no request: leave `since` out",
        }
    }

    /// Whether its answers have headers and a status.
    pub fn has_headers(&self) -> bool {
        matches!(self, Self::Http(_))
    }

    /// Whether an answer shows all that there is, so that absence means something.
    pub fn shows_all(&self) -> bool {
        match self {
            Self::Http(source) => source.shows_all(),
            Self::Websocket(_) | Self::Sse(_) => false,
            Self::Command(_) | Self::Grpc(_) => true,
        }
    }

    /// Whether its answers may come in pages.
    pub fn has_pages(&self) -> bool {
        matches!(self, Self::Http(source) if source.pages.is_some())
    }

    /// Whether it reads one page, and could read more.
    pub fn could_have_pages(&self) -> bool {
        matches!(self, Self::Http(source) if source.could_have_pages())
    }

    /// Whether it is asked with something secret.
    pub fn has_credentials(&self) -> bool {
        match self {
            Self::Http(source) => source.has_credentials(),
            Self::Websocket(source) => source.has_credentials(),
            Self::Sse(source) => source.has_credentials(),
            Self::Command(source) => source.has_credentials(),
            Self::Grpc(source) => source.has_credentials(),
        }
    }

    /// The request as a person reads it, without secrets.
    pub fn describe(&self) -> String {
        match self {
            Self::Http(source) => source.describe(),
            Self::Websocket(source) => source.describe(),
            Self::Sse(source) => source.describe(),
            Self::Command(source) => source.describe(),
            Self::Grpc(source) => source.describe(),
        }
    }
}

/// How many records a page has, for pages that end by it.
pub type Count = Arc<dyn Fn(&Page) -> Result<usize, Error> + Send + Sync>;

/// Whether all records of a page are known and unchanged, for walks that stop there.
pub type Seen = Arc<dyn Fn(Page) -> BoxFuture<'static, Result<bool, Error>> + Send + Sync>;

/// What a poll gives its source.
pub struct Ask<'a> {
    pub client: &'a Client,
    pub clock: &'a Clock,
    pub vault: &'a Vault,
    pub share: &'a mut Share,
    /// Whether an answer is accepted already that "nothing is new" may speak of.
    pub accepted: bool,
    /// Of the last accepted walk, when it had one page and the definition is the same.
    pub validators: Option<&'a Validators>,
    pub previous: Option<&'a Json>,
    pub mark: Option<&'a Mark>,
    /// What is sent before there is a mark.
    pub start: Option<&'a Mark>,
    /// Where and how the mark is sent.
    pub since: Option<&'a At>,
    /// The end of the time that is asked for, where the source takes only so much at once, and where it is sent.
    pub until: Option<&'a Mark>,
    pub until_at: Option<&'a At>,
    /// The mark of `since.token` depends on more of an answer than its body.
    pub token_sees_answer: bool,
    /// What an answer lacks has left: a part of the list is none.
    pub wants_all: bool,
    /// Statuses that mean "no such document".
    pub absent: &'a [u16],
    /// The member of a fan-out that is asked for.
    pub item: Option<&'a Json>,
    pub count: Count,
    pub seen: Seen,
    /// Who may want to know how far a long walk has come.
    pub pulse: &'a Pulse,
    /// What was found out about pages of the last walk.
    pub memo: &'a mut Memo,
}

impl<'a> Ask<'a> {
    /// What of `since` goes into the request, and where.
    pub fn marks(&self) -> impl Iterator<Item = (&'a At, Json)> + use<'a> {
        let pair = |at: Option<&'a At>, mark: Option<&'a Mark>| Some((at?, mark?.json()));
        pair(self.since, self.mark).into_iter().chain(pair(self.until_at, self.until))
    }

    /// What jq sees in a source.
    pub fn input(&self) -> Json {
        self.input_with(self.mark)
    }

    /// The same at another mark.
    pub fn input_with(&self, mark: Option<&Mark>) -> Json {
        json!({
            "now": self.clock.now().to_string(),
            "previous": self.previous,
            "mark": mark.map(Mark::seen),
            "until": self.until.map(Mark::seen),
            "item": self.item,
        })
    }
}

/// What a source brought.
#[derive(Debug)]
pub enum Fetched {
    /// 304: what is known still holds.
    NotModified {
        hint: Option<Duration>,
    },
    /// A status of `absent`: there is no such document.
    Absent {
        hint: Option<Duration>,
    },
    Pages(Answer),
}

/// A complete walk.
#[derive(Debug)]
pub struct Answer {
    pub pages: Vec<Page>,
    pub validators: Validators,
    /// The server wants no poll before this has passed.
    pub hint: Option<Duration>,
    /// The server's `Date`.
    pub date: Option<Timestamp>,
    /// What `previous` will be.
    pub meta: Json,
    /// What the last page's answer said beside its body, where that was asked for and is still known.
    pub said: Option<Said>,
}

impl Answer {
    /// Of a source that brings one document and knows no validators.
    pub fn document(page: Page, now: Timestamp) -> Self {
        let meta = json!({ "status": 0, "at": now.to_string() });
        Self { pages: vec![page], validators: Validators::default(), hint: None, date: None, meta, said: None }
    }

    /// Of all pages' bytes in order.
    pub fn hash(&self) -> Hash {
        let mut hasher = blake3::Hasher::new();
        for page in &self.pages {
            hasher.update(&page.hash.0);
        }
        Hash::from_blake3(&hasher.finalize())
    }
}

/// What was read in the pages of the last walk, by their bytes: an unchanged page is not read again.
#[derive(Debug, Default)]
pub struct Memo {
    pages: BTreeMap<Hash, Known>,
    /// The source was seen to fill a page of the size that the file says.
    filled: bool,
    /// The gRPC method that the server described.
    described: Option<grpc::Described>,
    /// The connection of a source that stays connected.
    live: stream::Live,
}

/// What a page's own bytes say of what follows it, as far as its kind of pages asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub records: usize,
    /// The cursor or URL in it; `None` is the end.
    pub next: Option<Json>,
    /// It says that it is the last one (`pages.end`).
    pub last: bool,
    /// The records that it says the list has (`pages.total`).
    pub total: Option<u64>,
    /// Nothing followed it when the page behind it was last asked for.
    pub ended: bool,
}

/// What follows a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    End,
    /// Another URL, of the same origin.
    Url(url::Url),
    /// The same request with another parameter.
    Parameter(Json),
}

impl Memo {
    pub fn known(&self, page: Hash) -> Option<Known> {
        self.pages.get(&page).cloned()
    }

    /// A stream's next poll asks from the mark.
    pub fn hang_up(&mut self) {
        self.live.hang_up();
    }

    /// What still holds under another definition of the same source.
    pub fn of_the_same_source(self) -> Self {
        Self { pages: BTreeMap::new(), filled: false, ..self }
    }

    /// A page came that was full.
    pub fn fills(&mut self) {
        self.filled = true;
    }

    pub fn has_filled(&self) -> bool {
        self.filled
    }

    /// Replaces what is known by what the walk just done has read.
    pub fn replace(&mut self, pages: impl IntoIterator<Item = (Hash, Known)>) {
        self.pages = pages.into_iter().collect();
    }
}

/// Why an answer was not accepted. Says what and where; holds no secret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{kind}")]
pub struct Error {
    pub kind: ErrorKind,
    /// The server wants no poll before this has passed.
    pub hint: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ErrorKind {
    #[error(transparent)]
    Http(#[from] crate::http::Error),
    #[error(transparent)]
    Expr(#[from] expr::Error),
    #[error(transparent)]
    Decode(#[from] crate::decode::Error),
    #[error(transparent)]
    Auth(auth::Error),
    #[error("{origin} answered {status}{}", .excerpt.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    Status { origin: String, status: u16, excerpt: Option<String> },
    #[error("page {page} of {origin} says that it failed (`fail`): {message}")]
    Fail { origin: String, page: usize, message: String },
    /// A GraphQL error or a SOAP fault.
    #[error("{origin} answered {status} with an error: {message}")]
    Fault { origin: String, status: u16, message: String },
    #[error(
        "{origin} names the {what} {target}, which is on another origin: name it in the file ({setting}) or leave it"
    )]
    ForeignOrigin { origin: String, what: &'static str, target: String, setting: &'static str },
    #[error("{origin} redirects more than {max} times (`redirects`)")]
    Redirects { origin: String, max: usize },
    #[error("{origin} redirects without a usable Location")]
    Location { origin: String },
    #[error("page {page} of {origin} comes again: {what}; the walk would never end")]
    Repeats { origin: String, page: usize, what: &'static str },
    #[error("{origin} has more than {max} pages (`pages.{kind}.max`)")]
    Pages { origin: String, max: usize, kind: &'static str },
    #[error(
        "the list at {origin} has {total} records by its own account (`pages.{kind}.total`), and {records} came: it is not taken for whole"
    )]
    Short { origin: String, records: u64, total: u64, kind: &'static str },
    #[error("all pages of {origin} did not come within {} (`deadline`)", crate::settings::units::show(*.after))]
    Deadline { origin: String, after: Duration },
    #[error(
        "{origin} answered {status} {}: a part is not taken for the whole list; ask for all of it, or write `window = true` if it is the newest of it",
        if *.status == 226 { "IM Used" } else { "Partial Content" }
    )]
    Part { origin: String, status: u16 },
    #[error("all pages of {origin} are larger than {limit} bytes")]
    WalkSize { origin: String, limit: u64 },
    #[error("{origin} allows no more requests for {}: the next page is not asked for", crate::settings::units::show(*.wait))]
    UsedUp { origin: String, wait: Duration },
    #[error("the job at {origin} failed (`job.failed`): {message}")]
    Job { origin: String, message: String },
    #[error("{origin} answered with the gRPC status {}: {message}", format!("{code:?}"))]
    Grpc { origin: String, code: tonic::Code, message: String },
    #[error("the program {program}: {why}")]
    Command { program: String, why: String },
    #[error("the connection to {origin} ended: {why}")]
    Closed { origin: String, why: String },
    #[error("no message of {origin} could be read so far (`decode`, `split`): {cause}")]
    Unread { origin: String, cause: crate::decode::Error },
    #[error("{0}")]
    Request(String),
    #[error("page {page} of {origin}: {message}")]
    Next { origin: String, page: usize, message: String },
}

impl Error {
    /// The status that an answer was refused for.
    pub fn status(&self) -> Option<u16> {
        match self.kind {
            ErrorKind::Status { status, .. } | ErrorKind::Fault { status, .. } | ErrorKind::Part { status, .. } => {
                Some(status)
            }
            _ => None,
        }
    }

    /// Whether the same request may have another end in a moment: the connection failed, and nobody refused.
    pub fn passes(&self) -> bool {
        use crate::http::Error::{Body, Connect, Lost, Request, Timeout};
        matches!(
            &self.kind,
            ErrorKind::Http(Body { .. } | Connect { .. } | Lost { .. } | Request { .. } | Timeout { .. })
        )
    }
}

impl<E: Into<ErrorKind>> From<E> for Error {
    fn from(kind: E) -> Self {
        Self { kind: kind.into(), hint: None }
    }
}

impl From<auth::Error> for Error {
    fn from(error: auth::Error) -> Self {
        Self { hint: error.wait(), kind: ErrorKind::Auth(error) }
    }
}

/// What stands for the words of an answer, where those must not stand.
pub const UNQUOTED: &str = "what it said is in `bellpull status` and in the log";

impl Error {
    /// The same without what the source itself said.
    pub fn unquoted(&self) -> Self {
        let words = || UNQUOTED.to_owned();
        let mut error = self.clone();
        match &mut error.kind {
            ErrorKind::Status { excerpt, .. } => *excerpt = None,
            ErrorKind::Fail { message, .. }
            | ErrorKind::Fault { message, .. }
            | ErrorKind::Job { message, .. }
            | ErrorKind::Grpc { message, .. }
            | ErrorKind::Next { message, .. }
            | ErrorKind::Auth(auth::Error::Refused { message, .. } | auth::Error::Token { message, .. }) => {
                *message = words()
            }
            ErrorKind::Command { why, .. } | ErrorKind::Closed { why, .. } => *why = words(),
            ErrorKind::Expr(_) | ErrorKind::Decode(_) | ErrorKind::Unread { .. } => {
                error.kind = ErrorKind::Request(format!("the answer cannot be read; {UNQUOTED}"));
            }
            _ => {}
        }
        error
    }

    /// How soon another attempt makes sense.
    pub fn failure_kind(&self) -> FailureKind {
        match &self.kind {
            ErrorKind::Auth(error) if error.is_refusal() => FailureKind::Refused,
            ErrorKind::Status { status: 401 | 403, .. }
            | ErrorKind::Fault { status: 401 | 403, .. }
            | ErrorKind::Grpc { code: tonic::Code::Unauthenticated | tonic::Code::PermissionDenied, .. } => {
                FailureKind::Refused
            }
            _ => FailureKind::Transient,
        }
    }
}
