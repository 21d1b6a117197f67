//! `bellpull demo`: everything on loopback in one command. An API made of recorded GitHub answers that changes as you
//! watch, the daemon as it always runs, and a receiver that verifies.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    config::Secrets,
    daemon,
    model::{EventId, Hash},
    receiver::{Receiver, Told},
    sign, terminal,
};

/// Recorded answers of one list, one after the other (tests/data/github/README.md).
const SNAPSHOTS: [&str; 4] = [
    include_str!("../tests/data/github/issues-1.json"),
    include_str!("../tests/data/github/issues-2.json"),
    include_str!("../tests/data/github/issues-3.json"),
    include_str!("../tests/data/github/issues-4.json"),
];
/// The path that was recorded.
const PATH: &str = "/repos/octokit-fixture-org/paginate-issues/issues";
/// How often each snapshot is served before the next: the second time shows a 304.
const SERVED_TIMES: usize = 2;
/// Changes between the first and the last snapshot.
const WEBHOOKS: usize = 5;
/// A demo is looked at when there is time.
const LINK_FOR: Duration = Duration::from_secs(60 * 60);
/// `--once` gives up after this.
const ONCE_WITHIN: Duration = Duration::from_secs(30);

/// Runs the demo; with `once` until five webhooks have been verified.
pub async fn run(once: bool, out: &mut (dyn Write + Send)) -> Result<(), String> {
    let dir = Directory::make()?;
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let upstream = TcpListener::bind(loopback).await.map_err(|e| format!("failed to listen: {e}"))?;
    let api = upstream.local_addr().map_err(|e| e.to_string())?;
    let secret = sign::make_secret();
    let told = Told { secret: Some(&secret), statuses: Vec::new(), recorder: None };
    let (receiver, mut received) = Receiver::bind(loopback, told).await?;
    let hook = receiver.address()?;
    let file = dir.0.join("bridges.toml");
    // Free when it was asked for; the daemon takes it a moment later.
    let page =
        TcpListener::bind(loopback).await.and_then(|listener| listener.local_addr()).map_err(|e| e.to_string())?;
    let codes = admin::Codes::default();
    let toml = configuration(api, hook, &secret, page, &dir.0);
    std::fs::write(&file, &toml).map_err(|e| format!("failed to write {}: {e}", file.display()))?;
    say(out, &format!("# bridges.toml of this demo\n{}\n", toml.replace(&secret, "whsec_…")))?;
    let link = admin::page_link(&format!("http://{page}"), &codes, LINK_FOR);
    say(out, &format!("# the dashboard: {link} (works once)\n\n"))?;
    let config = daemon::load(&file, Secrets::Read).await.map_err(|e| e.to_string())?;

    let shutdown = CancellationToken::new();
    let served = Arc::new(AtomicUsize::new(0));
    let api_router = Router::new().route(PATH, get(issues)).with_state(served);
    let api_stop = shutdown.clone();
    let api = tokio::spawn(async move {
        axum::serve(upstream, api_router).with_graceful_shutdown(api_stop.cancelled_owned()).await
    });
    let receiving = tokio::spawn(receiver.run(shutdown.clone()));
    let mut running = tokio::spawn(daemon::run(file, config, codes, shutdown.clone()));

    let wanted = if once { WEBHOOKS } else { usize::MAX };
    let mut shown = 0;
    let within = if once { ONCE_WITHIN } else { Duration::from_secs(u64::from(u32::MAX)) };
    let watching = timeout(within, async {
        while shown < wanted {
            let webhook = tokio::select! {
                webhook = received.recv() => webhook,
                // A person's Ctrl-C stops the daemon, and with it the demo.
                _ = &mut running => None,
            };
            let Some(webhook) = webhook else { return Ok(()) };
            say(out, &format!("{webhook}\n"))?;
            if let Some(Err(error)) = &webhook.verified {
                return Err(format!("a webhook did not verify: {error}"));
            }
            shown += 1;
        }
        Ok(())
    });
    let result =
        watching.await.unwrap_or_else(|_| Err(format!("only {shown} of {WEBHOOKS} webhooks came within 30 s")));
    received.close();
    shutdown.cancel();
    if !running.is_finished() {
        running.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    }
    // Both only answer on loopback; their ends are of no interest.
    let _ = (api.await, receiving.await);
    result?;
    if once {
        say(out, &format!("# {shown} webhooks, each verified by standardwebhooks\n"))?;
    }
    Ok(())
}

fn configuration(api: SocketAddr, hook: SocketAddr, secret: &str, page: SocketAddr, dir: &std::path::Path) -> String {
    format!(
        r#"[daemon]
state-dir = "{dir}/state"
listen = "{page}"

[network]
allow = ["127.0.0.0/8"]

[bridge.issues]
every = "400ms"
items = ".[]"
key   = ".number"
to    = ["me"]
[bridge.issues.source.http]
url   = "http://{api}{PATH}"

[endpoint.me]
url = "http://{hook}/hooks/issues"
sign.standard.secrets = [{{ value = "{secret}" }}]
"#,
        dir = dir.display(),
    )
}

/// The recorded list, with an ETag of its bytes; after the last snapshot the last again.
async fn issues(State(served): State<Arc<AtomicUsize>>, headers: HeaderMap) -> Response {
    let number = served.fetch_add(1, Ordering::Relaxed) / SERVED_TIMES;
    let body = SNAPSHOTS.get(number).or(SNAPSHOTS.last()).copied().unwrap_or("[]");
    let etag = format!("\"{}\"", Hash::of(body.as_bytes()));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8"), (header::ETAG, etag.as_str())], body).into_response()
}

fn say(out: &mut (dyn Write + Send), text: &str) -> Result<(), String> {
    out.write_all(terminal::lines(text).as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| format!("failed to write: {e}"))
}

/// A directory of the demo's own, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Self, String> {
        // A name that nobody else can have made.
        let path = std::env::temp_dir().join(format!("bellpull-demo-{}", EventId::random()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| format!("failed to create {}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left in a temporary directory is the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
