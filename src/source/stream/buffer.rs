//! Messages that wait for the next poll, with a cap of their number and of their bytes: whoever reads waits while it is full.

use std::sync::Arc;

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

/// The unit of the buffer's bytes; a semaphore counts 32 bits.
const UNIT_BYTES: u64 = 1024;
/// Messages that may wait for the next poll.
pub const MESSAGES_MAX: usize = 4096;

/// A message, and its part of the buffer.
#[derive(Debug)]
pub struct Arrived {
    pub body: Bytes,
    pub at: Instant,
    _room: OwnedSemaphorePermit,
}

/// Where one connection leaves its messages.
pub struct Buffer {
    into: mpsc::Sender<Arrived>,
    units: Arc<Semaphore>,
    all: u32,
}

impl Buffer {
    /// With room for so many bytes, and what a poll takes them from.
    pub fn new(size_max: u64) -> (Self, mpsc::Receiver<Arrived>) {
        let (into, arrived) = mpsc::channel(MESSAGES_MAX);
        let units = u32::try_from(size_max.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1);
        let all = Semaphore::new(usize::try_from(units).unwrap_or(usize::MAX));
        (Self { into, units: Arc::new(all), all: units }, arrived)
    }

    /// Leaves messages to the next poll; whether there will be one.
    pub async fn keep(&self, bodies: Vec<Bytes>) -> bool {
        for body in bodies {
            let Some(arrived) = self.room(body).await else { return false };
            if self.into.send(arrived).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Waits until there is room.
    async fn room(&self, body: Bytes) -> Option<Arrived> {
        let at = Instant::now();
        let units = u32::try_from(len(&body).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.all);
        let room = self.units.clone().acquire_many_owned(units).await.ok()?;
        Some(Arrived { body, at, _room: room })
    }
}

pub fn len(body: &Bytes) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}
