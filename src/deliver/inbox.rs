//! What was committed for an endpoint and its dispatcher has not taken in yet.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::store::Waiting;

/// Events that are taken in at once: a commit may have made a million, and others want the thread.
const SLICE: usize = 256;

/// Never full: whoever hands over never waits for one endpoint's dispatcher. What is in it waits on the disk as well, and would be
/// in the dispatcher's memory otherwise.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Shared>);

#[derive(Default)]
struct Shared {
    slices: Mutex<VecDeque<Vec<Waiting>>>,
    came: Notify,
}

impl Inbox {
    pub fn put(&self, waiting: &[Waiting]) {
        self.0.slices.lock().unwrap_or_else(PoisonError::into_inner).extend(waiting.chunks(SLICE).map(<[_]>::to_vec));
        self.0.came.notify_one();
    }

    pub fn len(&self) -> usize {
        self.0.slices.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Vec::len).sum()
    }

    /// The next slice, when there is one. Loses nothing where it is not awaited to its end.
    pub async fn take(&self) -> Vec<Waiting> {
        loop {
            let next = self.0.slices.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match next {
                Some(slice) => return slice,
                None => self.0.came.notified().await,
            }
        }
    }
}
