//! The daemon's Unix socket: who may connect to it.

use std::{
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use axum::serve::Listener;
use tokio::net::{UnixListener, UnixStream, unix::UCred};

use crate::telemetry::{LeftOut, Seldom};

/// After a failed accept (no file descriptors left), so that it is not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that looks at who connects.
pub struct Guarded {
    listener: UnixListener,
    uid: u32,
    gid: u32,
    refused: Seldom,
}

/// The socket that systemd made and holds over restarts (`bellpull.socket`), if it did.
pub fn inherited() -> Option<io::Result<Guarded>> {
    let listener = listenfd::ListenFd::from_env().take_unix_listener(0).ok().flatten()?;
    let guarded = || {
        listener.set_nonblocking(true)?;
        let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
        let own = std::fs::metadata(path.unwrap_or_default())?;
        Ok(Guarded {
            listener: UnixListener::from_std(listener)?,
            uid: own.uid(),
            gid: own.gid(),
            refused: Seldom::default(),
        })
    };
    Some(guarded())
}

/// Binds the socket, mode 0660. A socket that nobody answers on is left from a crash and replaced.
pub fn bind(path: &Path) -> io::Result<Guarded> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers on it"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let own = std::fs::metadata(path)?;
    Ok(Guarded { listener, uid: own.uid(), gid: own.gid(), refused: Seldom::default() })
}

impl Listener for Guarded {
    type Io = UnixStream;
    type Addr = ();

    async fn accept(&mut self) -> (UnixStream, ()) {
        loop {
            let accepted = self.listener.accept().await;
            let (uid, error) = match accepted.and_then(|(stream, _)| Ok((stream.peer_cred()?, stream))) {
                Ok((peer, stream)) if self.lets_in(&peer) => return (stream, ()),
                Ok((peer, _)) => (Some(peer.uid()), None),
                Err(error) => (None, Some(error.to_string())),
            };
            // Any user of the machine can knock.
            if let Some(LeftOut(left_out)) = self.refused.turn() {
                tracing::warn!(uid, error, left_out, "refused a connection to the admin socket");
            }
            if error.is_some() {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Guarded {
    /// Root, the daemon's own user, and the members of the socket's group.
    fn lets_in(&self, peer: &UCred) -> bool {
        let member = || {
            // A peer's credentials hold its primary group only; the kernel tells the others here (proc(5)).
            let status = std::fs::read_to_string(format!("/proc/{}/status", peer.pid()?)).ok()?;
            let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"))?.to_owned();
            groups.split_ascii_whitespace().any(|gid| gid.parse() == Ok(self.gid)).then_some(())
        };
        peer.uid() == 0 || peer.uid() == self.uid || peer.gid() == self.gid || member().is_some()
    }
}
