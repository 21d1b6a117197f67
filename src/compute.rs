//! Work that takes a processor for long: parsing, patches, jq. It runs on blocking threads, a few at a time, so that
//! reads of the store, which only wait, find a thread.

use std::cell::RefCell;

use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
    task::{JoinError, spawn_blocking},
};

/// As many as small machines have processors; more would only take memory.
static TURNS: Semaphore = Semaphore::const_new(4);

thread_local! {
    /// That of the work on this thread.
    static TURN: RefCell<Option<SemaphorePermit<'static>>> = const { RefCell::new(None) };
}

/// Gives the turn back, also of work that panics.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        TURN.take();
    }
}

async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.expect("the turns are never closed")
}

/// Runs it when it is its turn.
pub async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let turn = turn().await;
    spawn_blocking(move || {
        TURN.set(Some(turn));
        let _ended = Ended;
        work()
    })
    .await
}

/// A part of such work that waits for another process, without the turn: others compute meanwhile.
pub fn aside<T>(wait: impl FnOnce() -> T) -> T {
    let had_turn = TURN.take().is_some();
    let result = wait();
    if had_turn {
        TURN.set(Some(Handle::current().block_on(turn())));
    }
    result
}
