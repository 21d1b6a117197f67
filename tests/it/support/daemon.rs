//! The real binary as a child process, with a notify socket of the test's own.

use std::{
    collections::VecDeque,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a command or the daemon may take to do what it must.
const WITHIN: Duration = Duration::from_secs(30);

/// A directory with a configuration, and the commands that use it.
pub struct Place {
    pub dir: TempDir,
}

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    notify: UnixDatagram,
    seen: VecDeque<String>,
    pub log: PathBuf,
}

impl Place {
    /// Writes `bridges.toml`; `[daemon]` and `[network]` are added.
    pub fn new(toml: &str) -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a directory") };
        place.write(toml);
        place
    }

    pub fn write(&self, toml: &str) {
        let state = self.path().join("state");
        let head = format!(
            "[daemon]\nlisten = \"off\"\nstate-dir = {:?}\n[network]\nallow = [\"127.0.0.0/8\"]\n",
            state.to_str().expect("a path")
        );
        std::fs::write(self.file(), head + toml).expect("written");
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self) -> PathBuf {
        self.path().join("bridges.toml")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bellpull();
        command.arg("--config").arg(self.file()).args(arguments).current_dir(self.path());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments))
    }

    /// The answer of a command as JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        let ran = self.run(&all);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
        serde_json::from_str(&ran.out).expect("JSON")
    }

    /// Starts the daemon, and waits until it is ready.
    pub fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// As `start`, with more in its environment.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Daemon {
        let socket = self.path().join("notify.sock");
        let _ = std::fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).expect("a socket");
        notify.set_read_timeout(Some(WITHIN)).expect("a timeout");
        let log = self.path().join("log");
        let out = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let child = self
            .command(&["run"])
            .env("NOTIFY_SOCKET", &socket)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .expect("it starts");
        let mut daemon = Daemon { child, notify, seen: VecDeque::new(), log };
        daemon.told("READY=1");
        daemon
    }
}

impl Daemon {
    /// Waits for a datagram that begins so; what came before is dropped. Returns it whole.
    pub fn told(&mut self, start: &str) -> String {
        let until = Instant::now() + WITHIN;
        loop {
            while let Some(message) = self.seen.pop_front() {
                if message.starts_with(start) {
                    return message;
                }
            }
            assert!(Instant::now() < until, "the daemon did not say {start}: {}", self.log());
            let mut bytes = [0; 4096];
            let length = self.notify.recv(&mut bytes).unwrap_or_else(|e| panic!("{start}: {e}: {}", self.log()));
            self.seen.push_back(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    }

    /// Whether a datagram that begins so comes within a time; others are dropped.
    pub fn tells_within(&mut self, start: &str, within: Duration) -> bool {
        self.seen.clear();
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.notify.set_read_timeout(Some(left)).expect("a timeout");
            let mut bytes = [0; 4096];
            if let Ok(length) = self.notify.recv(&mut bytes)
                && bytes[..length].starts_with(start.as_bytes())
            {
                self.notify.set_read_timeout(Some(WITHIN)).expect("a timeout");
                return true;
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(done.expect("kill runs").success());
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; the exit code.
    pub fn wait(&mut self) -> i32 {
        let until = Instant::now() + WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < until, "the daemon does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and its end.
    pub fn stop(mut self) -> String {
        self.signal("TERM");
        self.told("STOPPING=1");
        assert_eq!(self.wait(), 0, "{}", self.log());
        self.log()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, as it was built with these tests or as it was given.
pub fn binary() -> String {
    std::env::var("BELLPULL_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_bellpull").to_owned())
}

/// The binary, with nothing of the tests' environment that would change what it does.
pub fn bellpull() -> Command {
    // Another build of it, for figures of the release: `BELLPULL_BINARY=target/release/bellpull`.
    let binary = binary();
    let binary = std::fs::canonicalize(&binary).unwrap_or_else(|e| panic!("{binary}: {e}"));
    let mut command = Command::new(binary);
    for name in ["RUST_LOG", "NOTIFY_SOCKET", "JOURNAL_STREAM", "STATE_DIRECTORY", "RUNTIME_DIRECTORY"] {
        command.env_remove(name);
    }
    command
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs the binary with some arguments, where the project is.
pub fn run(arguments: &[&str]) -> Ran {
    let mut command = bellpull();
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    Ran::of(command)
}

impl Ran {
    pub fn of(mut command: Command) -> Self {
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
    }
}

/// What the daemon answers at a path on its socket, with the head.
pub fn get(place: &Place, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut socket = std::os::unix::net::UnixStream::connect(place.path().join("state/admin.sock")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    write!(socket, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").expect("asked");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains(" 200 OK"), "{path}: {answer}");
    answer
}
