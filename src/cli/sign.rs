//! `sign` and `verify`: a signature by hand, and the check of a captured request.

use std::{collections::BTreeMap, io::Read, path::PathBuf};

use clap::Args;

use super::{Done, FAILED, Failure, IO, USAGE, print};
use crate::{
    clock::Clock,
    model::{EventId, Timestamp},
    settings::{secret, units},
    sign::{Key, TOLERANCE_SECONDS},
};

#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// The body; - for standard input
    file: PathBuf,
    #[command(flatten)]
    secret: SecretArgs,
    /// webhook-id; else a fresh one
    #[arg(long)]
    id: Option<String>,
    /// webhook-timestamp in seconds; else now
    #[arg(long)]
    timestamp: Option<i64>,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The captured request: headers, an empty line, the body; - for standard input
    file: PathBuf,
    #[command(flatten)]
    secret: SecretArgs,
}

/// A secret, from where no other user of the machine can read it, or as it is.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct SecretArgs {
    /// The secret itself; every user of the machine can read it, as all arguments
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// A file that holds it
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// A variable of the environment that holds it
    #[arg(long, value_name = "NAME")]
    secret_env: Option<String>,
}

impl SecretArgs {
    pub fn read(&self) -> Result<Option<String>, Failure> {
        let read = match (&self.secret_file, &self.secret_env) {
            (Some(path), _) => secret::read_file(path.clone()),
            (None, Some(name)) => secret::read_env(name),
            (None, None) => return Ok(self.secret.clone()),
        };
        read.map(Some).map_err(|e| Failure::new(USAGE, e))
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    let failed = |e: std::io::Error| Failure::new(IO, format!("failed to read {}: {e}", path.display()));
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(failed)
}

fn key(secret: &SecretArgs) -> Result<Key, Failure> {
    let missing =
        || Failure::new(USAGE, "which secret? `--secret-file FILE`, `--secret-env NAME` or `--secret SECRET`");
    let secret = secret.read()?.ok_or_else(missing)?;
    Key::parse(&secret).map_err(|e| Failure::new(USAGE, e))
}

pub(super) fn sign(args: &SignArgs) -> Done {
    let body = read(&args.file)?;
    let id = args.id.clone().unwrap_or_else(|| EventId::random().to_string());
    let timestamp = args.timestamp.unwrap_or_else(|| Clock::system().now().seconds());
    let signature = key(&args.secret)?.sign(&id, timestamp, &body);
    print(&format!("webhook-id: {id}\nwebhook-timestamp: {timestamp}\nwebhook-signature: {signature}\n"))
}

pub(super) fn verify(args: &VerifyArgs) -> Done {
    let request = read(&args.file)?;
    let (headers, body) = split(&request)
        .ok_or_else(|| Failure::new(USAGE, "a captured request is headers, an empty line and the body"))?;
    let at = headers.get("webhook-timestamp").and_then(|t| t.parse::<i64>().ok());
    // A captured request is old: its signature is judged for its own time, and its age is told.
    let then = Timestamp(at.unwrap_or_default().saturating_mul(1000));
    let verdict = key(&args.secret)?.verify(|name| headers.get(name).map(String::as_str), body, then);
    verdict.map_err(|refusal| Failure::new(FAILED, format!("refused: {refusal}")))?;
    let age = Clock::system().now().seconds() - then.seconds();
    let note = if age.abs() > TOLERANCE_SECONDS {
        let age = units::show(std::time::Duration::from_secs(age.unsigned_abs()));
        format!("; its timestamp is {age} away from now, so a receiver would refuse it today")
    } else {
        String::new()
    };
    print(&format!("verified{note}\n"))
}

/// Headers by lower-case name, and the body behind the first empty line.
fn split(request: &[u8]) -> Option<(BTreeMap<String, String>, &[u8])> {
    let mut headers = BTreeMap::new();
    let mut rest = request;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let (line, tail) = rest.split_at_checked(end)?;
        rest = tail.get(1..)?;
        let line = std::str::from_utf8(line).ok()?.trim_end_matches('\r');
        if line.is_empty() {
            return Some((headers, rest));
        }
        // The request line has no colon before its first space.
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) {
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
}
