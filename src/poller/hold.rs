//! Answers that a guard holds: kept with their pages, accepted exactly as shown, or rejected.

use serde_json::Value as Json;

use super::{
    Failure, Held, Polled, Poller, Polling,
    commit::{Silence, count_missing},
    detect::Detected,
};
use crate::{
    decode::Page,
    guard::Counts,
    model::{Event, Hash, u64_of},
    source::Answer,
    store::{HeldPage, Hold, HoldChange, Op},
    telemetry::kind,
};

impl Poller {
    pub(super) async fn hold_answer(
        &self,
        polled: &mut Polled,
        counts: Counts,
        reason: String,
        answer: Option<(Hash, Answer)>,
    ) -> Result<Polling, Failure> {
        let now = self.clock.now();
        let (hash, pages, validators) = match answer {
            Some((hash, answer)) => (hash, answer.pages.iter().map(held_page).collect(), answer.validators),
            // Records that have been missing for long enough from the accepted answer, or a document that is gone.
            None => {
                (polled.progress.answer.or(polled.state.answer).unwrap_or_default(), Vec::new(), Default::default())
            }
        };
        if polled.is_held(hash) {
            polled.progress.held_again += 1;
            return Ok(Polling::Held);
        }
        let judged_under = polled.judged_under();
        let hold = Hold {
            hash,
            judged_under,
            at: now,
            reason: reason.clone(),
            created: counts.created,
            updated: counts.updated,
            deleted: counts.deleted,
            rejected: false,
            answer: pages,
            validators,
        };
        let data = serde_json::json!({
            "bridge": &*polled.bridge.name, "reason": reason, "hash": hash,
            "created": counts.created, "updated": counts.updated, "deleted": counts.deleted,
        });
        let event = self.operational(&polled.bridge, "bridge.held", data);
        self.write_hold(polled, HoldChange::Set(Box::new(hold)), vec![event]).await?;
        let bridge = &polled.bridge.name;
        // An answer that differs each time is held each time: that is the same state.
        if polled.is_on_hold() {
            tracing::debug!(%bridge, reason, %hash, "another answer is held in its place");
        } else {
            tracing::warn!(message_id = kind::BRIDGE_HELD, %bridge, reason, %hash, "the answer is held: `bellpull accept` or `bellpull reject`");
        }
        polled.held = Some(Held { hash, rejected: false, judged_under });
        polled.progress.held_again = 0;
        Ok(Polling::Held)
    }

    async fn write_hold(&self, polled: &mut Polled, hold: HoldChange, alerts: Vec<Event>) -> Result<(), Failure> {
        let sequence = polled.state.sequence;
        self.write_beside(polled, hold, alerts, sequence).await?;
        self.store.write(Op::Progress(vec![(polled.bridge.name.clone(), polled.progress.clone())])).await?;
        Ok(())
    }

    /// Commits what is held, exactly as `status` shows it.
    pub async fn accept(&self, polled: &mut Polled, hash: Option<Hash>) -> Result<Polling, String> {
        let hold = self.held(polled, hash).await?;
        if hold.rejected {
            return Err("what was held is rejected; the next answer that differs is judged again".into());
        }
        if !polled.still_holds(hold.judged_under) {
            return Err("the bridge was edited since: the next poll judges the answer again".into());
        }
        let pages: Vec<Page> = hold
            .answer
            .iter()
            .map(|page| Page {
                url: page.url.clone(),
                content_type: page.content_type.clone(),
                hash: Hash::of(page.body.as_bytes()),
                body: page.body.clone().into(),
            })
            .collect();
        let count = match pages.len() {
            0 => polled.progress.pages.unwrap_or(polled.state.pages).max(1),
            pages => u32::try_from(pages).unwrap_or(u32::MAX),
        };
        let failed = |e: Failure| e.to_string();
        let (found, answer) = if pages.is_empty() {
            let accepted = polled.progress.answer.or(polled.state.answer).unwrap_or_default();
            let found = if accepted == hold.hash && !polled.progress.missing.is_empty() {
                self.detect_again(polled).await.map_err(failed)?
            } else {
                Detected::nothing(self.known(polled).await.map_err(failed)?)
            };
            (found, None)
        } else {
            let mut share = self.budget.share(pages.iter().map(|page| u64_of(page.body.len())).sum()).await;
            // What it said beside its body is not held: a token of that stays the known one, and what follows it comes again.
            let found = self.detect(polled, pages.clone(), Some(hold.at), None, &mut share).await.map_err(failed)?;
            let answer = Answer {
                pages,
                validators: hold.validators.clone(),
                hint: None,
                date: None,
                meta: polled.state.previous.clone().unwrap_or(Json::Null),
                said: None,
            };
            (found, Some((hold.hash, answer)))
        };
        // As the held poll counted them: it left no trace.
        let (due, missing) = count_missing(polled, &found, count);
        let shown = (hold.created, hold.updated, hold.deleted);
        let now = (u64_of(found.diff.created.len()), u64_of(found.diff.updated.len()), u64_of(due.len()));
        if shown != now {
            return Err(format!(
                "what is held showed {shown:?} records created, updated and deleted and would now be {now:?}: wait for the next poll"
            ));
        }
        polled.progress.missing = missing;
        self.commit(polled, found, due, count, answer, Silence::Loud).await.map_err(failed)
    }

    /// Drops what is held; an identical answer is then only counted.
    pub async fn reject(&self, polled: &mut Polled, hash: Option<Hash>) -> Result<(), String> {
        let hold = self.held(polled, hash).await?;
        let (hash, judged_under) = (hold.hash, hold.judged_under);
        let rejected = Hold { rejected: true, answer: Vec::new(), ..hold };
        self.write_hold(polled, HoldChange::Set(Box::new(rejected)), Vec::new()).await.map_err(|e| e.to_string())?;
        if polled.is_on_hold() {
            let bridge = &polled.bridge.name;
            tracing::info!(message_id = kind::BRIDGE_RELEASED, %bridge, %hash, "the held answer is rejected");
        }
        polled.held = Some(Held { hash, rejected: true, judged_under });
        Ok(())
    }

    pub(super) async fn held(&self, polled: &Polled, hash: Option<Hash>) -> Result<Hold, String> {
        let name = &polled.bridge.name;
        let hold = self.hold(name).await.map_err(|e| e.to_string())?;
        let hold = hold.ok_or_else(|| format!("nothing of {name} is held"))?;
        match hash {
            Some(hash) if hash != hold.hash => {
                Err(format!("{hash} is stale: {} is held now; look at `bellpull status {name}`", hold.hash))
            }
            _ => Ok(hold),
        }
    }
}

fn held_page(page: &Page) -> HeldPage {
    HeldPage {
        url: page.url.clone(),
        content_type: page.content_type.clone(),
        body: String::from_utf8_lossy(&page.body).into_owned(),
    }
}
