//! Work that takes a processor for long: parsing, patches, jq. It runs on blocking threads, a few at a time, so that
//! reads of the store and name look-ups, which only wait, find a thread.

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

/// As many as small machines have processors; more would only take memory.
static TURNS: Semaphore = Semaphore::const_new(4);

/// Runs it when it is its turn.
pub async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let _turn = TURNS.acquire().await.expect("the turns are never closed");
    spawn_blocking(work).await
}
