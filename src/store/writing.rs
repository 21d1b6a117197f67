//! A commit of any size, from the one who makes it to the writer: what fits into one group is one, and what does not is written
//! ahead in parts.

use super::{
    Ahead, BridgeState, Commit, Error, Hold, HoldChange, List, ListChunk, Op, Queued, Store, Written, held_piece,
};
use crate::model::{Entry, Event, Hash, Name, Record, Timestamp};

/// Rows of a commit that needs no parts, and bytes of a part and of such a commit: what the writer does at once.
const WHOLE_ROWS: usize = 2_000;
const PART_BYTES: usize = 4 << 20;
/// Of a delivery in its queue row.
const DELIVERY_BYTES: usize = 64;
/// A piece of a held page.
const PIECE_BYTES: usize = 1 << 20;
/// A shorter list is brought into the engine's form by the writer itself.
const CUT_FROM: usize = 512;

/// A commit in the making.
pub struct Writing {
    store: Store,
    bridge: Name,
    expected: u64,
    /// Open where something was written ahead.
    stage: Option<u64>,
    /// Not written yet.
    part: WritePart,
    /// What waits, in the order of the parts.
    queued: Vec<Queued>,
}

#[derive(Default)]
struct WritePart {
    put: Vec<Record>,
    delete: Vec<Hash>,
    chunks: Vec<ListChunk>,
    events: Vec<Event>,
    rows: usize,
    bytes: usize,
}

impl Store {
    /// Begins a commit over a version of a bridge.
    pub fn commit(&self, bridge: Name, expected: u64) -> Writing {
        Writing { store: self.clone(), bridge, expected, stage: None, part: WritePart::default(), queued: Vec::new() }
    }

    /// Brings a list into the engine's form, off the writer's thread where it is long.
    pub async fn cut(&self, bridge: &Name, list: Vec<Entry>) -> Result<List, Error> {
        if list.len() < CUT_FROM {
            return Ok(List::Whole(list));
        }
        let bridge = bridge.clone();
        self.read(move |engine| engine.cut(&bridge, list)).await
    }
}

impl Writing {
    /// Adds records and events; those of before are written ahead where they are enough for a group.
    pub async fn part(&mut self, put: Vec<Record>, delete: Vec<Hash>, events: Vec<Event>) -> Result<(), Error> {
        for record in put {
            self.add(record.body.len() + record.key.len()).await?;
            self.part.put.push(record);
        }
        for key in delete {
            self.add(0).await?;
            self.part.delete.push(key);
        }
        for event in events {
            self.add(event.body.len() + event.deliveries.len() * DELIVERY_BYTES).await?;
            self.part.events.push(event);
        }
        Ok(())
    }

    /// Makes room for a row of so many bytes.
    async fn add(&mut self, bytes: usize) -> Result<(), Error> {
        // Once something is ahead, parts are as small as the others need them to be.
        let rows_max = if self.stage.is_some() { self.store.rows_of_a_part() } else { WHOLE_ROWS };
        if self.part.rows > 0 && (self.part.rows >= rows_max || self.part.bytes + bytes > PART_BYTES) {
            self.write_ahead().await?;
        }
        (self.part.rows, self.part.bytes) = (self.part.rows + 1, self.part.bytes + bytes);
        Ok(())
    }

    /// Writes the pages of a held answer ahead, where they are long.
    pub async fn hold(&mut self, change: HoldChange) -> Result<HoldChange, Error> {
        let HoldChange::Set(mut hold) = change else { return Ok(change) };
        if hold.answer.iter().map(|page| page.body.len()).sum::<usize>() <= PIECE_BYTES {
            return Ok(HoldChange::Set(hold));
        }
        let Hold { hash, at, .. } = *hold;
        let mut pieces = Vec::with_capacity(hold.answer.len());
        for (number, page) in hold.answer.iter_mut().enumerate() {
            let body = std::mem::take(&mut page.body).into_bytes();
            let mut count = 0;
            for piece in body.chunks(PIECE_BYTES) {
                let entry = Entry { key: held_piece(number, count), raw: hash, canonical: hash };
                self.part(vec![piece_of(entry, at, piece)], Vec::new(), Vec::new()).await?;
                count += 1;
            }
            pieces.push(count);
        }
        // All of it: the commit's own records would be the bridge's.
        self.write_ahead().await?;
        Ok(HoldChange::Ahead(hold, pieces))
    }

    async fn write_ahead(&mut self) -> Result<(), Error> {
        let stage = match self.stage {
            Some(stage) => stage,
            None => match self.store.write(Op::Stage(self.bridge.clone())).await? {
                Written::Staged(stage) => *self.stage.insert(stage),
                other => return Err(Error::Io(format!("a stage was answered by {other:?}"))),
            },
        };
        let WritePart { put, delete, chunks, events, .. } = std::mem::take(&mut self.part);
        let ahead = Ahead { stage, put, delete, chunks, events };
        if let Written::Queued(queued) = self.store.write(Op::Ahead(Box::new(ahead))).await? {
            self.queued.push(queued);
        }
        Ok(())
    }

    /// Commits; durable on `Ok`, with the deliveries that wait.
    pub async fn finish(
        mut self,
        state: BridgeState,
        list: Option<List>,
        hold: HoldChange,
    ) -> Result<Vec<Queued>, Error> {
        let list = match list {
            Some(List::Cut(mut cut)) => {
                for chunk in std::mem::take(&mut cut.fresh) {
                    self.add(chunk.row.len()).await?;
                    self.part.chunks.push(chunk);
                }
                if self.stage.is_none() {
                    cut.fresh = std::mem::take(&mut self.part.chunks);
                }
                Some(List::Cut(cut))
            }
            other => other,
        };
        if self.stage.is_some() && self.part.rows > 0 {
            // The last group is small: state, manifest, hold.
            self.write_ahead().await?;
        }
        let WritePart { put, delete, events, .. } = self.part;
        let (bridge, expected, ahead) = (Some(self.bridge), self.expected, self.stage);
        let commit = Commit { bridge, expected, state, list, put, delete, hold, events, ahead };
        if let Written::Queued(queued) = self.store.write(Op::Commit(Box::new(commit))).await? {
            self.queued.push(queued);
        }
        Ok(self.queued)
    }
}

fn piece_of(entry: Entry, seen: Timestamp, bytes: &[u8]) -> Record {
    Record { entry, key: String::new(), seen, body: bytes.to_vec() }
}
