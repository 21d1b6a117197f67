//! A commit that is written ahead in slices: records in a layer of their own, chunks of the list that no manifest names yet, and
//! events whose packs no reader sees while the stage is open. The commit is then one small group, which closes the stage.

use super::{
    group::Group,
    tables::{Rows, Table},
};
use crate::{
    model::u64_of,
    store::{
        Ahead, Error, Written,
        codec::{self, Stage, Work, key, key::BridgeRow},
    },
};

impl Group<'_> {
    /// Opens a stage. One that is left open of the same bridge has no commit to come.
    pub(super) fn begin_stage(&mut self, bridge: &str) -> Result<Written, Error> {
        let bridge = self.bridge_number(bridge)?;
        for open in self.stages.clone().into_iter().filter(|stage| stage.bridge == bridge) {
            self.abandon(open.number)?;
        }
        let number = self.counters.number();
        self.stages.push(Stage { number, bridge, packs: Vec::new(), put: 0, deleted: 0 });
        self.put_stages()?;
        Ok(Written::Staged(number))
    }

    pub(super) fn write_ahead(&mut self, ahead: Ahead) -> Result<Written, Error> {
        let Ahead { stage: number, put, delete, chunks, events } = ahead;
        let mut stage = self.stage(number)?;
        for record in &put {
            let value = codec::encode_record(record);
            self.put(Table::Records, &key::record(number, record.entry.key), &value)?;
        }
        for hash in &delete {
            self.put(Table::Records, &key::record(number, *hash), codec::TOMBSTONE)?;
        }
        for chunk in chunks {
            self.change(Table::Bridges, key::list_chunk(stage.bridge, chunk.id), Some(chunk.row));
        }
        stage.put += u64_of(put.len());
        stage.deleted += u64_of(delete.len());
        let (from, dead) = (self.counters.pack, self.dead.clone());
        let queued = self.queue(&events)?;
        let to = self.counters.pack;
        // They are counted when they are seen.
        self.dead = dead;
        match stage.packs.last_mut() {
            Some((_, last)) if *last == from => *last = to,
            _ if from < to => stage.packs.push((from, to)),
            _ => {}
        }
        if let Some(open) = self.stages.iter_mut().find(|open| open.number == number) {
            *open = stage;
        }
        self.put_stages()?;
        Ok(Written::Queued(queued))
    }

    pub(super) fn stage(&self, number: u64) -> Result<Stage, Error> {
        let open = self.stages.iter().find(|stage| stage.number == number && stage.is_open()).cloned();
        // Another job of the bridge began a commit of its own.
        open.ok_or(Error::Conflict { stored: 0, expected: number })
    }

    /// Takes a stage's rows into its bridge: from this group on they are seen.
    pub(super) fn close_stage(&mut self, number: u64) -> Result<Stage, Error> {
        let stage = self.stage(number)?;
        self.forget_stage(number)?;
        if !stage.packs.is_empty() {
            self.recount_all = true;
        }
        Ok(stage)
    }

    /// No commit of it comes any more. Its events stay unseen until they are gone.
    pub(super) fn abandon(&mut self, number: u64) -> Result<(), Error> {
        let Some(stage) = self.stages.iter_mut().find(|stage| stage.number == number && stage.is_open()) else {
            return Ok(());
        };
        let bridge = std::mem::take(&mut stage.bridge);
        self.put_stages()?;
        self.work(Work::Layer(number))?;
        self.work(Work::Chunks(bridge))?;
        self.work(Work::Stage(number))
    }

    pub(super) fn forget_stage(&mut self, number: u64) -> Result<(), Error> {
        self.stages.retain(|open| open.number != number);
        self.put_stages()
    }

    fn put_stages(&mut self) -> Result<(), Error> {
        let value = codec::encode_json(&self.stages)?;
        self.put(Table::Meta, super::META_STAGES, &value)
    }

    /// What is held of a bridge may have its pages in a layer.
    pub(super) fn drop_held(&mut self, bridge: u64) -> Result<(), Error> {
        let hold = self.value(Table::Bridges, &key::bridge(BridgeRow::Hold, bridge))?;
        if let Some((layer, _)) = hold.map(|value| codec::decode_hold(&value)).transpose()?.and_then(|(_, pages)| pages)
        {
            self.work(Work::Layer(layer))?;
        }
        Ok(())
    }

    /// Something for the background.
    pub(super) fn work(&mut self, work: Work) -> Result<(), Error> {
        let number = self.counters.number();
        self.put(Table::Meta, &super::work::key(number), &codec::encode_json(&work)?)
    }
}
