//! What an admin asks of a bridge: what a poll would do, and every record once more.

use serde_json::Value as Json;

use super::{
    Failure, Polled, Poller, Verdict,
    commit::{self, count_missing, counts, steps},
    known::value_of,
};
use crate::{
    compute::compute,
    decode::Page,
    event::Change,
    expr::Said,
    guard::Counts,
    model::{Name, Timestamp, u64_of},
    store::HoldChange,
};

/// What would be committed, for `poll --dry-run`.
#[derive(Debug)]
pub struct Found {
    pub counts: Counts,
    pub verdict: Verdict,
    /// The first of them.
    pub changes: Vec<Change>,
    /// What is odd about the answer.
    pub hints: Vec<String>,
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
            self.write_beside(polled, HoldChange::Keep, events, sequence).await?;
        }
        Ok(sent)
    }

    /// What a poll would do with saved or fetched pages, without doing it; so many of its changes are shown.
    pub async fn dry_run(
        &self,
        polled: &Polled,
        pages: Vec<Page>,
        date: Option<Timestamp>,
        said: Option<Said>,
        meta: &Json,
        shown_max: usize,
    ) -> Result<Found, Failure> {
        let page_count = pages.len();
        let count = u32::try_from(page_count).unwrap_or(u32::MAX);
        let mut share = self.budget.share(pages.iter().map(|page| u64_of(page.body.len())).sum()).await;
        let mut found = self.detect(polled, pages, date, said, &mut share).await?;
        let odd = std::mem::take(&mut found.hints);
        let hint = self.hint_of_answer(polled, &mut found, page_count, meta).await;
        let hints = self.hints(polled, odd.into_iter().chain(hint));
        let (deleted, _) = count_missing(polled, &found, count);
        let definition_changed = polled.state.version > 0 && !polled.definition_is_same();
        let counts = counts(polled, &found, deleted.len(), definition_changed);
        let mut changes = Vec::new();
        for step in steps(found.diff.created, found.diff.updated, deleted, Vec::new(), Vec::new()) {
            if changes.len() >= shown_max {
                break;
            }
            let old = self.stored(&polled.bridge.name, step.replaced()).await?;
            let definition = polled.bridge.clone();
            let read = move || commit::changes(&definition.definition, step, &old);
            let read = compute(read).await.map_err(|e| Failure::Panicked(format!("reading it: {e}")))??;
            changes.extend(read.into_iter().map(|(change, _)| change));
        }
        changes.truncate(shown_max);
        Ok(Found { counts, verdict: polled.bridge.guard.judge(counts), changes, hints })
    }
}
