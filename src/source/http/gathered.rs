//! What a walk has gathered, and how sure it is that nothing follows. Pure.

use serde_json::Value as Json;
use url::Url;

use crate::{
    decode::Page,
    expr::Said,
    http::origin,
    model::{Hash, Timestamp, Validators},
    pulse::Walked,
    source::{Error, ErrorKind, Known, page::Pages},
};

/// What a walk has gathered so far.
#[derive(Default)]
pub(super) struct Gathered {
    pub pages: Vec<Page>,
    pub read: Vec<(Hash, Known)>,
    pub size: u64,
    pub records: u64,
    /// The records that the list has, as the last page said that had any.
    pub total: Option<u64>,
    /// Pages without a record at the end so far.
    pub empty: usize,
    /// The next page is asked for only to know whether one follows: the last one was not full, and the source was never seen to
    /// fill one.
    pub doubt: bool,
    /// The last page may be full for the server, whatever was asked for: what it says of itself says nothing of a page behind it.
    pub may_be_full: bool,
    /// As it is told to one who watches.
    pub shown: Walked,
    /// Of the first page: validators, the server's clock, and what `previous` will be.
    pub first: Option<(Validators, Option<Timestamp>, Json)>,
    /// What the last page's answer said beside its body, where that is asked for.
    pub said: Option<Said>,
}

impl Gathered {
    /// Nothing follows the last page. Its bytes say so from now on, unless it may be as many as the server gives: then a record that
    /// comes next stands on another page, and nothing changes on this one.
    pub fn ends(&mut self) {
        self.doubt = false;
        let most = self.read.iter().map(|(_, known)| known.records).max().unwrap_or(0);
        if let Some((_, known)) = self.read.last_mut() {
            // A page that is shorter than another one is not full, whatever the server's most is.
            self.may_be_full = known.records >= most && may_be_cap(known.records);
            known.ended = !self.may_be_full;
        }
    }

    /// Whether the next page is asked for although its only page so far has a number of records that no server has for its most.
    pub fn is_most_likely_all(&self) -> bool {
        let is_short = |(_, known): &(Hash, Known)| !may_be_cap(known.records);
        self.doubt && self.read.len() == 1 && self.read.iter().all(is_short)
    }

    /// Refuses a walk that ended with fewer records than the list is said to have.
    pub fn is_whole(&self, at: &Url, list: Option<&Pages>) -> Result<(), Error> {
        let (records, kind) = (self.records, list.map_or("link", Pages::name));
        match self.total.filter(|total| records < *total) {
            Some(total) => Err(ErrorKind::Short { origin: origin(at), records, total, kind }.into()),
            None => Ok(()),
        }
    }
}

/// Whether a server may have such a number for the most records of a page: 3, 20, 24, 64, 100.
pub(super) fn may_be_cap(records: usize) -> bool {
    matches!(records, 1..=4)
        || records > 0 && (records.is_multiple_of(5) || records.is_multiple_of(12) || records.is_power_of_two())
}

/// Whether a URL names a size of pages that is larger than a page: `per_page=100`.
pub(super) fn asks_for_more(url: &Url, records: usize) -> bool {
    const NAMES: [&str; 10] = ["per", "limit", "size", "count", "rows", "top", "first", "max", "take", "len"];
    url.query_pairs().any(|(name, value)| {
        let name = name.to_ascii_lowercase();
        NAMES.iter().any(|part| name.contains(part)) && value.parse::<usize>().is_ok_and(|size| size > records)
    })
}

/// Whether a server answers so where a page behind the last one is asked for, after so many pages. A request may be wrong for
/// another reason, too: a number that is too large for the server comes late in a walk.
pub(super) fn is_behind_the_end(status: u16, pages: usize) -> bool {
    matches!(status, 404 | 410 | 416) || matches!(status, 400 | 422) && pages == 1
}
