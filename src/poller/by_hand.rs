//! What an admin asks of a bridge: what a poll would do, and every record once more.

use super::{
    Failure, Polled, Poller, Verdict,
    commit::{changes, count_missing, counts, u64_of},
    known::value_of,
};
use crate::{
    decode::Page,
    event::Change,
    guard::Counts,
    model::{Name, Timestamp},
    store::Commit,
};

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
        let name = polled.bridge.name.clone();
        while let Some(slice) = self.slice(&name, &mut after, RESEND_AT_ONCE).await? {
            let maker = self.maker(&polled.bridge, self.clock.now());
            let mut sequence = polled.state.sequence;
            let mut events = Vec::with_capacity(slice.len());
            for record in &slice {
                sequence += 1;
                events.push(maker.present(endpoint, sequence, &record.key, &value_of(record)?));
            }
            sent += u64_of(events.len());
            self.write_beside(polled, Commit { events, ..Commit::default() }, sequence).await?;
        }
        Ok(sent)
    }

    /// What a poll would do with saved or fetched pages, without doing it.
    pub async fn dry_run(&self, polled: &Polled, pages: Vec<Page>, date: Option<Timestamp>) -> Result<Found, Failure> {
        let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
        let found = self.detect(polled, pages, date).await?;
        let (deleted, _) = count_missing(polled, &found, count);
        let definition_changed = polled.state.version > 0 && !polled.definition_is_same();
        let counts = counts(polled, &found, deleted.len(), definition_changed);
        let old = self.replaced(&polled.bridge.name, &found.diff, &deleted).await?;
        let changes = changes(found.diff, &deleted, &old)?;
        Ok(Found {
            counts,
            verdict: polled.bridge.guard.judge(counts),
            changes: changes.into_iter().map(|(change, _)| change).collect(),
        })
    }
}
