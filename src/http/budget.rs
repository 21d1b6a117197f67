//! The memory that answers in flight may take together (`daemon.memory`).
//!
//! A poll waits for its expected share before it starts and never while it holds one, so that polls cannot wait for each
//! other. A poll whose answer outgrows what is left fails, and expects more the next time. What an answer becomes when it is read
//! counts as well: documents, records, and the values of the largest.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of the budget; a semaphore counts 32 bits at a time.
const UNIT_BYTES: u64 = 4096;

#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    all: u32,
}

/// A poll's part of it, given back when dropped.
#[derive(Debug)]
pub struct Share {
    units: Arc<Semaphore>,
    held: OwnedSemaphorePermit,
    used_bytes: u64,
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl Budget {
    pub fn new(bytes: u64) -> Self {
        let all = units(bytes).max(1);
        let permits = usize::try_from(all).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(permits)), all }
    }

    /// Waits for a share of so many bytes, at most the whole budget.
    pub async fn share(&self, expected_bytes: u64) -> Share {
        let wanted = units(expected_bytes).clamp(1, self.all);
        let held = self.units.clone().acquire_many_owned(wanted).await.expect("the budget is never closed");
        Share { units: self.units.clone(), held, used_bytes: 0 }
    }
}

impl Share {
    /// Takes `bytes` more; false when the budget has none left.
    pub fn take(&mut self, bytes: u64) -> bool {
        self.used_bytes += bytes;
        let held = u64::try_from(self.held.num_permits()).unwrap_or(u64::MAX).saturating_mul(UNIT_BYTES);
        let Some(missing) = self.used_bytes.checked_sub(held).filter(|m| *m > 0) else {
            return true;
        };
        match self.units.clone().try_acquire_many_owned(units(missing)) {
            Ok(more) => {
                self.held.merge(more);
                true
            }
            Err(_) => false,
        }
    }

    /// The share itself, for work on another thread; what is left in its place holds nothing, until it comes back.
    pub fn lend(&mut self) -> Self {
        let none = self.units.clone().try_acquire_many_owned(0).expect("none can always be had");
        let lent = Self { units: self.units.clone(), held: none, used_bytes: self.used_bytes };
        std::mem::replace(self, lent)
    }

    /// Bytes taken so far: what to expect the next time.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_grows_while_there_is_room_and_comes_back() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let mut a = budget.share(2 * UNIT_BYTES).await;
        let mut b = budget.share(2 * UNIT_BYTES).await;
        assert!(a.take(8 * UNIT_BYTES), "two held and six free");
        assert!(b.take(2 * UNIT_BYTES));
        assert!(!b.take(1), "nothing is left");
        drop(a);
        assert!(b.take(1));
        let _whole = Budget::new(UNIT_BYTES).share(u64::MAX).await;
    }
}
