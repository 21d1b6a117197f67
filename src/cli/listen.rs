//! `listen`: a receiver for trying things, and what it recorded sent again.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use axum::http::StatusCode;
use clap::Args;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{Done, FAILED, Failure, IO, USAGE, print, sign::SecretArgs};
use crate::receiver::{
    Receiver, Told,
    record::{Reader, Recorded, Recorder},
    replay::Replayer,
};

#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    #[arg(long, default_value_t = 9000, conflicts_with = "replay")]
    port: u16,
    /// Verify with it; with --replay, sign again
    #[command(flatten)]
    secret: SecretArgs,
    /// The status to answer with; of several, one after the other, and from the start again
    #[arg(long, default_value = "200", value_parser = clap::value_parser!(u16).range(200..600), conflicts_with = "replay")]
    status: Vec<u16>,
    /// Append each request to a file before it is answered, as a line of JSON
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    record: Option<PathBuf>,
    /// Do not listen: send the requests of such a file again, in their order
    #[arg(long, value_name = "FILE", requires = "to")]
    replay: Option<PathBuf>,
    /// Where --replay sends them
    #[arg(long, value_name = "URL", requires = "replay")]
    to: Option<Url>,
}

pub(super) async fn listen(args: ListenArgs) -> Done {
    let secret = args.secret.read()?;
    match (&args.replay, &args.to) {
        (Some(file), Some(to)) => replay(file, to.clone(), secret.as_deref()).await,
        _ => receive(args, secret.as_deref()).await,
    }
}

async fn receive(args: ListenArgs, secret: Option<&str>) -> Done {
    let failed = |error: String| Failure::new(IO, error);
    let statuses = args.status.iter().map(|status| StatusCode::from_u16(*status)).collect::<Result<_, _>>();
    let statuses = statuses.map_err(|e| Failure::new(USAGE, e.to_string()))?;
    let recorder = args.record.as_deref().map(Recorder::open).transpose().map_err(failed)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let told = Told { secret, statuses, recorder };
    let (receiver, mut received) = Receiver::bind(address, told).await.map_err(failed)?;
    let address = receiver.address().map_err(failed)?;
    print(&format!("# listening on http://{address}/\n"))?;
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(receiver.run(shutdown.clone()));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break,
            webhook = received.recv() => match webhook {
                Some(webhook) => print(&format!("{webhook}\n"))?,
                None => break,
            },
        }
    }
    received.close();
    shutdown.cancel();
    serving.await.map_err(|e| failed(e.to_string()))?.map_err(failed)
}

/// Sends what was recorded, one after the other; a line for each says what came of it.
async fn replay(file: &Path, to: Url, secret: Option<&str>) -> Done {
    let replayer = Replayer::new(to, secret).map_err(|e| Failure::new(USAGE, e))?;
    let mut reader = Reader::open(file).await.map_err(|e| Failure::new(IO, e))?;
    let (mut sent, mut refused) = (0_u64, 0_u64);
    loop {
        let next = reader.next().await;
        let Some(next) = next.map_err(|e| Failure::new(IO, format!("{}: {e}", file.display())))? else { break };
        let (name, result) = match &next {
            Ok(recorded) => (title(recorded), replayer.send(recorded).await),
            Err(error) => (String::new(), Err(error.clone())),
        };
        sent += 1;
        refused += u64::from(!matches!(result, Ok(200..300)));
        let what = match result {
            Ok(status) => status.to_string(),
            Err(error) => format!("not answered: {error}"),
        };
        print(&format!("{}{name}: {what}\n", reader.line))?;
    }
    if refused > 0 {
        return Err(Failure::new(FAILED, format!("{refused} of {sent} requests were not answered with 2xx")));
    }
    Ok(())
}

/// ` POST /hooks evt_...`, as far as it is known.
fn title(recorded: &Recorded) -> String {
    let id = recorded.headers.iter().find(|(name, _)| name == "webhook-id").and_then(|(_, id)| id.bytes().ok());
    let id = id.map(|id| format!(" {}", String::from_utf8_lossy(&id))).unwrap_or_default();
    format!(" {} {}{id}", recorded.method, recorded.path)
}
