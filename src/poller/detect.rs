//! What an answer brings, compared with what is known: nothing is judged or written here.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{
    Failure, Polled, Poller,
    known::{SLICE, canonical_of},
    left_out::{LeftOut, NamedRecords},
};
use crate::{
    compute::compute,
    config::{BadRecords, Bridge, Marks, Since},
    decode::Page,
    diff::{self, Diff},
    expr::{Expr, Said},
    extract::{self, Parsed, Seen},
    http::{budget::Share, place::At},
    mark::{self, Clocks},
    model::{Entry, Hash, Mark, Timestamp, u64_of},
};

/// What an answer brings, before it is judged.
#[derive(Debug, Default, PartialEq)]
pub struct Detected {
    pub diff: Diff,
    /// Every record of a window's answer, until it is compared.
    pub(super) window: Vec<Seen>,
    pub(super) mark: Option<Mark>,
    /// What is odd about the answer, for a person.
    pub(super) hints: Vec<String>,
    /// What the last page was decoded to, until hints were looked for in it; empty for one without a body.
    pub(super) document: Bytes,
    /// Keys of a window's records that say that they are gone; once it is compared, of those that are known.
    pub(super) gone: Vec<Hash>,
    /// Keys of a window's records that must be written again so that they are not forgotten.
    pub(super) seen_again: Vec<Hash>,
    pub(super) left_out: LeftOut,
    /// Absence means something.
    pub(super) complete: bool,
}

impl Detected {
    pub fn complete(diff: Diff) -> Self {
        Self { diff, complete: true, ..Self::default() }
    }

    pub fn window(window: Vec<Seen>, mark: Option<Mark>) -> Self {
        Self { window, mark, ..Self::default() }
    }

    /// An answer without any record: all that is known is missing.
    pub fn nothing(known: Vec<Entry>) -> Self {
        let missing = known.iter().map(|entry| entry.key).collect();
        Self { diff: Diff { list: known, missing, ..Diff::default() }, complete: true, ..Self::default() }
    }
}

impl Poller {
    /// Compares an answer with what is known, on a blocking thread: it parses what changed. What that takes is of the share.
    pub(super) async fn detect(
        &self,
        polled: &Polled,
        pages: Vec<Page>,
        date: Option<Timestamp>,
        said: Option<Said>,
        share: &mut Share,
    ) -> Result<Detected, Failure> {
        let anew = polled.state.version > 0 && !polled.definition_is_same();
        let known = if anew { self.known_anew(polled).await? } else { self.known(polled).await? };
        let bridge = polled.bridge.clone();
        let clocks = Clocks { date, now: self.clock.now() };
        let mut mark = polled.obeyed_mark(clocks.now);
        let mut lent = share.lend();
        let compare = move || {
            let mut compare = || -> Result<Detected, Failure> {
                let PagesRead { mut records, mut left_out, document, resume } =
                    read(&bridge, &pages, known.len(), &mut lent)?;
                if bridge.bad_records == BadRecords::Keep {
                    left_out.take_from(&mut records, &bridge, &known, clocks)?;
                }
                if bridge.is_complete() {
                    let records = present(&bridge, &known, records)?;
                    let mut diff = diff::complete(&bridge.definition, &known, records)?;
                    left_out.keep_in(&mut diff);
                    return Ok(Detected { left_out, document, ..Detected::complete(diff) });
                }
                let (found, trouble) = resume;
                let (mut tombstones, mut absurd) = (BTreeSet::new(), trouble);
                mark = found.or_else(|| mark.take());
                let seen = diff::parse_all(&bridge.definition, records, |parsed| -> Result<(), Failure> {
                    // Of several copies the last one counts.
                    match bridge.deletes.is_tombstone(&parsed.value)? {
                        true => tombstones.insert(parsed.entry.key),
                        false => tombstones.remove(&parsed.entry.key),
                    };
                    if let Some(since) = &bridge.since {
                        let told = mark::advance(since, &mut mark, parsed, clocks).map_err(Failure::Mark)?;
                        absurd = absurd.take().or(told);
                    }
                    Ok(())
                })?;
                let mark = match &bridge.since {
                    Some(Since { marks: Marks::Token(token), at, .. }) => {
                        token_of(token, at.as_ref(), &document, said.as_ref(), mark.take())?
                    }
                    since => since.as_ref().and(mark.take()),
                };
                let seen = seen.into_iter().filter(|seen| !tombstones.contains(&seen.entry.key)).collect();
                let (gone, hints) = (tombstones.into_iter().collect(), absurd.into_iter().collect());
                Ok(Detected { left_out, gone, hints, document, ..Detected::window(seen, mark) })
            };
            (compare(), lent)
        };
        let compared = compute(compare).await.map_err(|e| Failure::Panicked(format!("reading it: {e}")))?;
        *share = compared.1;
        let mut found = compared.0?;
        if !polled.bridge.is_complete() {
            self.compare_window(polled, &mut found).await?;
        }
        Ok(found)
    }

    /// The accepted answer again: the known list, with the records missing that were.
    pub(super) async fn detect_again(&self, polled: &Polled) -> Result<Detected, Failure> {
        let list = self.known(polled).await?;
        let missing: Vec<Hash> = polled.progress.missing.iter().map(|(key, _)| *key).collect();
        let present = u64::try_from(list.len().saturating_sub(missing.len())).unwrap_or(0);
        let diff = Diff { list, missing, present, ..Diff::default() };
        Ok(Detected { diff, complete: polled.bridge.is_complete(), ..Detected::default() })
    }

    /// Compares a window's records with the stored ones, each by its key, a slice after the other.
    pub(super) async fn compare_window(&self, polled: &Polled, found: &mut Detected) -> Result<(), Failure> {
        let refresh_ms = i64::try_from(polled.bridge.forget.as_millis() / 2).unwrap_or(i64::MAX);
        let refresh = self.clock.now().plus_ms(-refresh_ms);
        let window = std::mem::take(&mut found.window);
        found.diff.present = u64_of(window.len());
        // What was never known, or is deleted already, is gone without a word.
        for slice in std::mem::take(&mut found.gone).chunks(SLICE) {
            let stored = self.stored(&polled.bridge.name, slice.to_vec()).await?;
            found.gone.extend(slice.iter().filter(|key| stored.contains_key(*key)));
        }
        // What was left out was there: it is not to be forgotten.
        let left_out: Vec<Hash> = found.left_out.keys.iter().copied().collect();
        for slice in left_out.chunks(SLICE) {
            let stored = self.stored(&polled.bridge.name, slice.to_vec()).await?;
            found.seen_again.extend(stored.iter().filter(|(_, old)| old.seen < refresh).map(|(key, _)| *key));
        }
        for slice in window.chunks(SLICE) {
            let stored = self.stored(&polled.bridge.name, slice.iter().map(|seen| seen.entry.key).collect()).await?;
            for seen in slice {
                let Some(old) = stored.get(&seen.entry.key) else {
                    found.diff.created.push(seen.clone());
                    continue;
                };
                // The stored hash is of the stored definition: under another one the body decides.
                let canonical =
                    if polled.definition_is_same() { old.entry.canonical } else { canonical_of(&polled.bridge, old)? };
                if canonical != seen.entry.canonical {
                    found.diff.updated.push(seen.clone());
                } else if old.seen < refresh {
                    found.seen_again.push(seen.entry.key);
                }
            }
        }
        Ok(())
    }
}

/// What a record takes while it is compared: its place in the page, its hashes, where it was met. 385 MiB were seen at a million
/// records of 138 MB.
const RECORD_BYTES: usize = 160;
/// And a known one: its entry, and where it is met.
const KNOWN_BYTES: usize = 128;
/// The values of a record that is shorter are of no account.
const LARGE_BYTES: usize = 64 << 10;
/// What the value of the largest record takes is needed for it as it was, as it is, and for what differs.
const VALUES: u64 = 3;

/// What pages hold.
struct PagesRead {
    records: NamedRecords,
    left_out: LeftOut,
    /// Of the last page.
    document: Bytes,
    /// The last mark that a message of a stream names, and why one could not be had.
    resume: (Option<Mark>, Option<String>),
}

/// What pages hold, and what had to be left out of it. Refuses what would take more memory than there is for answers.
fn read(bridge: &Bridge, pages: &[Page], known: usize, share: &mut Share) -> Result<PagesRead, Failure> {
    let mut all = Vec::with_capacity(pages.len());
    let (mut left_out, mut document) = (LeftOut::default(), Bytes::new());
    let mut resume = (None, None);
    let mut largest = 0;
    let mut take = |bytes: usize, what: &str| match share.take(u64_of(bytes)) {
        true => Ok(()),
        false => Err(Failure::Memory { mib: bytes.div_ceil(1 << 20), what: what.to_owned() }),
    };
    take(known * KNOWN_BYTES, "for the records that are known")?;
    for (number, page) in pages.iter().enumerate() {
        let name = format!("page {}", number + 1);
        if bridge.definition.items.as_ref().is_some_and(|items| items.as_path().is_none()) {
            // jq sees all of the document at once.
            let value = extract::value_bytes(&page.body);
            take(usize::try_from(value).unwrap_or(usize::MAX), "for the values that `items` sees")?;
        }
        let records = bridge.definition.records(page).map(|records| {
            left_out.flaws.replaced += u64_of(records.replaced);
            document = records.document;
            if let Some(Since { marks: Marks::Messages(expr), .. }) = &bridge.since {
                match mark::of_message(expr, &document) {
                    Ok(found) => resume.0 = found.or(resume.0.take()),
                    Err(error) => resume.1 = Some(error),
                }
            }
            records.all
        });
        let tried = match records {
            // A message comes once, and one that cannot be read must not take the others with it.
            Ok(records) if bridge.source.is_stream() => {
                let only = vec![(name.clone(), records.clone())];
                let look = |parsed: &Parsed| bridge.deletes.is_tombstone(&parsed.value).map(|_| ());
                diff::parse_all(&bridge.definition, only, look).map(|_| records)
            }
            Err(error) if !bridge.source.is_stream() => return Err(error.into()),
            other => other,
        };
        match tried {
            Ok(records) => {
                let made = records.iter().any(|raw| !is_part_of(&raw.text, &page.body));
                let texts: usize = if made { records.iter().map(|raw| raw.text.len()).sum() } else { 0 };
                take(texts + records.len() * RECORD_BYTES, &format!("for {} records of {name}", records.len()))?;
                let large = records.iter().filter(|raw| raw.text.len() >= LARGE_BYTES);
                largest = large.map(|raw| extract::value_bytes(&raw.text)).max().unwrap_or(0).max(largest);
                all.push((name, records));
            }
            Err(error) => left_out.message(&error),
        }
    }
    let values = largest.saturating_mul(VALUES);
    take(usize::try_from(values).unwrap_or(usize::MAX), "for the values of its largest record")?;
    Ok(PagesRead { records: all, left_out, document, resume })
}

/// The mark that the last page of a walk names. A page without a body names none, and neither does an answer that only its body is
/// known of, where the token stands beside that.
fn token_of(
    token: &Expr,
    at: Option<&At>,
    document: &[u8],
    said: Option<&Said>,
    known: Option<Mark>,
) -> Result<Option<Mark>, Failure> {
    let (document, said) = match (token.sees_answer(), said) {
        (true, None) => return Ok(known),
        (true, Some(said)) if document.is_empty() => (b"null".as_slice(), said),
        (true, Some(said)) => (document, said),
        (false, _) if document.is_empty() => return Ok(known),
        (false, _) => (document, &Said::default()),
    };
    mark::token(token, at, (document, said), known).map_err(Failure::Mark)
}

/// Without the records that say that they are gone (`deletes.when`). One whose bytes are known was there.
fn present(bridge: &Bridge, known: &[Entry], mut pages: NamedRecords) -> Result<NamedRecords, Failure> {
    if bridge.deletes.when.is_none() {
        return Ok(pages);
    }
    let known: BTreeSet<Hash> = known.iter().map(|entry| entry.raw).collect();
    for (_, records) in &mut pages {
        let mut here = Vec::with_capacity(records.len());
        for raw in std::mem::take(records) {
            // What cannot be read is told by the one who reads it next.
            let value = (!known.contains(&raw.hash)).then(|| serde_json::from_slice(&raw.text).ok()).flatten();
            let is_gone = value.map_or(Ok(false), |value| bridge.deletes.is_tombstone(&value))?;
            if !is_gone {
                here.push(raw);
            }
        }
        *records = here;
    }
    Ok(pages)
}

/// Whether a record's text lies in its page, or was made of it.
fn is_part_of(text: &[u8], body: &[u8]) -> bool {
    body.as_ptr_range().contains(&text.as_ptr())
}
