//! The daemon's Unix socket. Its mode says who may connect: the kernel looks at it.

use std::{
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    path::Path,
};

use tokio::net::UnixListener;

/// The socket that systemd made and holds over restarts (`bellpull.socket`), if it did.
pub fn inherited() -> Option<io::Result<UnixListener>> {
    let listener = listenfd::ListenFd::from_env().take_unix_listener(0).ok().flatten()?;
    Some(listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener)))
}

/// Binds the socket, mode 0660: for its user and the members of its group. A socket that nobody answers on is left from a crash
/// and replaced; what is not a socket is not touched.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is there"));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers on it")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever was at the path was removed.
    #[tokio::test]
    async fn only_a_socket_that_nobody_answers_on_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let notes = dir.path().join("notes.txt");
        std::fs::write(&notes, "mine").expect("written");
        assert_eq!(bind(&notes).expect_err("refused").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&notes).expect("there"), "mine");
        let path = dir.path().join("admin.sock");
        let first = bind(&path).expect("bound");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o660);
        assert_eq!(bind(&path).expect_err("refused").kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind(&path).expect("that of a crash is replaced");
    }
}
