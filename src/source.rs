//! Sources: where a bridge's answer comes from. A kind is one file here and one line in [`Source`].
//!
//! A source asks and walks pages. It does not know what a record is, beyond how many a page has, and stores nothing.

pub mod auth;
pub mod http;
pub mod page;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value as Json;

use crate::{
    clock::Clock,
    decode::Page,
    expr,
    http::{Client, budget::Share},
    model::{Hash, Timestamp, Validators},
    schedule::FailureKind,
    settings::Table,
};

/// Every kind of source.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Http(Arc<http::Source>),
}

/// Kinds of later versions, refused by name.
const NOT_YET: &[&str] = &["graphql", "soap", "grpc", "websocket", "command"];

impl Source {
    /// Reads `[bridge.NAME.source.KIND]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        table.not_yet(NOT_YET);
        let kind = table.take_kind(&["http"]);
        table.finish();
        let (_, item) = kind?;
        http::Source::read(item.table()?).map(|source| Self::Http(Arc::new(source)))
    }

    /// Asks for everything: all pages, or why not.
    pub async fn fetch(&self, ask: Ask<'_>) -> Result<Fetched, Error> {
        match self {
            Self::Http(source) => source.fetch(ask).await,
        }
    }

    /// What the snapshot depends on, as text: an edit of it makes validators void.
    pub fn definition(&self) -> String {
        match self {
            Self::Http(source) => source.definition(),
        }
    }

    /// The depth that an answer's nesting may have.
    pub fn depth_max(&self) -> usize {
        match self {
            Self::Http(source) => source.depth_max,
        }
    }

    /// The decoder that the file names.
    pub fn decoder(&self) -> Option<crate::decode::Decoder> {
        match self {
            Self::Http(source) => source.decode.clone(),
        }
    }

    /// The origin that is asked, where it is always the same.
    pub fn origin(&self) -> Option<&str> {
        match self {
            Self::Http(source) => source.origin.as_deref(),
        }
    }

    /// A message without this source's secrets.
    pub fn redact(&self, message: String) -> String {
        match self {
            Self::Http(source) => source.redact(message),
        }
    }

    /// The request as a person reads it, without secrets.
    pub fn describe(&self) -> String {
        match self {
            Self::Http(source) => source.describe(),
        }
    }
}

/// How many records a page has, for pages that end by it.
pub type Count = Arc<dyn Fn(&Page) -> Result<usize, Error> + Send + Sync>;

/// What a poll gives its source.
pub struct Ask<'a> {
    pub client: &'a Client,
    pub clock: &'a Clock,
    pub share: &'a mut Share,
    /// Of the last accepted walk, when it had one page and the definition is the same.
    pub validators: Option<&'a Validators>,
    pub previous: Option<&'a Json>,
    pub mark: Option<&'a str>,
    /// Where and how the mark is sent.
    pub since: Option<&'a page::At>,
    /// Statuses that mean "no such document".
    pub absent: &'a [u16],
    pub count: Count,
    /// What was found out about pages of the last walk.
    pub memo: &'a mut Memo,
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
}

impl Answer {
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
}

/// What a page's own bytes say of what follows it, as far as its kind of pages asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    pub records: usize,
    /// The cursor or URL in it; `None` is the end.
    pub next: Option<String>,
}

/// What follows a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    End,
    /// Another URL, of the same origin.
    Url(url::Url),
    /// The same request with another parameter.
    Parameter(String),
}

impl Memo {
    pub fn known(&self, page: Hash) -> Option<Known> {
        self.pages.get(&page).cloned()
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
    #[error("{origin} answered {status}{}", .excerpt.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    Status { origin: String, status: u16, excerpt: Option<String> },
    #[error("page {page} of {origin} says that it failed (`fail`): {message}")]
    Fail { origin: String, page: usize, message: String },
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
    #[error("all pages of {origin} did not come within {} (`deadline`)", crate::settings::units::show(*.after))]
    Deadline { origin: String, after: Duration },
    #[error("all pages of {origin} are larger than {limit} bytes")]
    WalkSize { origin: String, limit: u64 },
    #[error("{0}")]
    Request(String),
    #[error("page {page} of {origin}: {message}")]
    Next { origin: String, page: usize, message: String },
}

impl<E: Into<ErrorKind>> From<E> for Error {
    fn from(kind: E) -> Self {
        Self { kind: kind.into(), hint: None }
    }
}

impl Error {
    /// How soon another attempt makes sense.
    pub fn failure_kind(&self) -> FailureKind {
        match self.kind {
            ErrorKind::Status { status: 401 | 403, .. } => FailureKind::Refused,
            _ => FailureKind::Transient,
        }
    }
}
