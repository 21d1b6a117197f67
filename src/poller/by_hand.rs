//! What an admin asks of a bridge: what a poll would do, and every record once more.

use super::{
    Failure, Polled, Poller, Verdict,
    commit::{changes, count_missing, counts, u64_of},
};
use crate::{
    decode::Page,
    event::Change,
    guard::Counts,
    model::{Name, Timestamp},
    store::Commit,
};
use serde_json::Value as Json;

/// What would be committed, for `poll --dry-run`.
#[derive(Debug)]
pub struct Found {
    pub counts: Counts,
    pub verdict: Verdict,
    pub changes: Vec<Change>,
}

/// Records of one commit of a resend.
const RESEND_AT_ONCE: usize = 200;

impl Poller {
    /// Every record of the snapshot as `<bridge>.present` to one endpoint, in slices; returns how many.
    pub async fn resend(&self, polled: &mut Polled, endpoint: &Name) -> Result<u64, Failure> {
        let (mut after, mut sent) = (None, 0);
        loop {
            let name = polled.bridge.name.clone();
            let slice = self.store.read(move |engine| engine.scan(&name, after, RESEND_AT_ONCE)).await?;
            let Some(last) = slice.last() else { return Ok(sent) };
            after = Some(last.entry.key);
            let maker = self.maker(&polled.bridge, self.clock.now());
            let mut sequence = polled.state.sequence;
            let mut events = Vec::with_capacity(slice.len());
            for record in &slice {
                let value: Json = serde_json::from_slice(&record.body)
                    .map_err(|e| Failure::Answer(format!("a stored record is damaged: {e}")))?;
                sequence += 1;
                events.push(maker.present(endpoint, sequence, &record.key, &value));
            }
            sent += u64_of(events.len());
            self.write_beside(polled, Commit { events, ..Commit::default() }, sequence).await?;
        }
    }

    /// What a poll would do with saved or fetched pages, without doing it.
    pub async fn dry_run(&self, polled: &Polled, pages: Vec<Page>, date: Option<Timestamp>) -> Result<Found, Failure> {
        let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
        let found = self.detect(polled, pages, date).await?;
        let mut scratch = Polled::new(polled.bridge.clone(), None, None);
        (scratch.state, scratch.progress) = (polled.state.clone(), polled.progress.clone());
        let (deleted, _) = count_missing(&scratch, &found, count);
        let definition_changed = polled.state.version > 0 && !polled.definition_is_same();
        let counts = counts(polled, &found, deleted.len(), definition_changed);
        let old = self
            .stored(
                &polled.bridge.name,
                found.diff.updated.iter().map(|p| p.entry.key).chain(deleted.iter().copied()).collect(),
            )
            .await?;
        let changes = changes(found.diff, &deleted, &old)?;
        Ok(Found {
            counts,
            verdict: polled.bridge.guard.judge(counts),
            changes: changes.into_iter().map(|(change, _)| change).collect(),
        })
    }
}
