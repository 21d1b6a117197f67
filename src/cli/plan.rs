//! `plan`: what another file would change of what runs, in words, before a reload does it.

use std::path::Path;

use super::{Done, Failure, IO, client::Client, load, print};
use crate::config::{Secrets, preview::preview};

pub(super) const EXAMPLE: &str = "Example:
  bellpull plan            # the file was edited: what would `bellpull reload` do?
  bellpull plan new.toml   # the same of another file";

/// Something would change.
const CHANGES: u8 = 2;

/// `path` is the file of the daemon.
pub(super) async fn plan(path: &Path, file: Option<&Path>, json: bool) -> Done {
    let file = file.unwrap_or(path);
    let new = load(file, Secrets::FormOnly).await?;
    // The daemon goes on with what its file said, whatever that says by now.
    let client = match load(path, Secrets::FormOnly).await {
        Ok(config) => Client::connect(path, config).await?,
        Err(_) => match Client::running(path).await {
            Some(client) => client,
            None => Client::connect(file, new.clone()).await?,
        },
    };
    let found = preview(&client.outline().await?, &new);
    if json {
        let found = serde_json::to_value(&found).map_err(|e| Failure::new(IO, e.to_string()))?;
        print(&format!("{found}\n"))?;
    } else {
        print(&found.to_string())?;
    }
    if found.is_empty() { Ok(()) } else { Err(Failure::new(CHANGES, "")) }
}
