//! Who runs programs for the daemon: a few processes that are asked one thing at a time.
//!
//! There are two lanes. In the quick one a run holds a turn of [`compute`](crate::compute) as all work on documents does, and has a
//! tenth of a second and little memory. What needs more is ended there and begun again in the slow one: programs have no effects. Its
//! expression goes there at once the next time, so that one bridge that hangs costs the others nothing but that tenth.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{self, BufReader, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Error, Work,
    worker::{ARGUMENT, END, FAILED, NO_JSON, OUTPUT, Request},
};
use crate::compute;

/// The binary, where it said that it has workers in it; a test of the library has none, and runs programs itself.
static BINARY: OnceLock<OsString> = OnceLock::new();
static POOL: Pool = Pool { quick: Lane::new(QUICK_MIB), slow: Lane::new(SLOW_MIB), slow_turns: Turns::new(SLOW_RUNS) };

/// Of processor time in the quick lane.
const QUICK: Duration = Duration::from_millis(100);
/// However little processor time it got.
const QUICK_WALL: Duration = Duration::from_secs(1);
/// The program's own five seconds, and what an input of the largest size takes to arrive and to be parsed.
const SLOW: Duration = Duration::from_millis(5_700);
/// Memory that a run may use, of all kinds.
const QUICK_MIB: u64 = 64;
const SLOW_MIB: u64 = 180;
/// Runs of the slow lane at a time: as many as small machines have processors.
const SLOW_RUNS: usize = 2;
/// Those that may wait for one of its turns: each holds a thread.
const SLOW_WAITING_MAX: usize = 48;
/// How often is looked whether a run takes too long.
const LOOK: Duration = Duration::from_millis(20);
/// A worker that nobody asked for so long is ended.
const IDLE: Duration = Duration::from_secs(60);
/// What a run may give back, at least; an input that is longer may give back twice its length.
const OUTPUT_BYTES: usize = 64 << 20;

/// How an expression ran lately. Of each place in the file its own: what one bridge is sent says nothing of another.
#[derive(Debug, Default)]
pub(super) struct Pace {
    slow: AtomicBool,
}

/// Lets programs run in processes of this binary from now on, which [`serve`](super::serve) is in.
pub fn use_workers(binary: impl Into<OsString>) {
    // The second one who says so is a test that shares a process with others.
    let _ = BINARY.set(binary.into());
}

pub(super) fn has_workers() -> bool {
    BINARY.get().is_some()
}

/// The outputs of a program, as JSON texts.
pub(super) fn run(work: Work<'_>, pace: &Pace) -> Result<Vec<String>, Error> {
    if !pace.slow.load(Ordering::Relaxed) {
        match POOL.quick.ask(work, Bound::Quick)? {
            WorkerAnswer::Answered(outputs) => return outputs,
            WorkerAnswer::Late | WorkerAnswer::Died(_) => pace.slow.store(true, Ordering::Relaxed),
        }
    }
    compute::aside(|| {
        let stopped = |limit: String| Error::Runaway { program: work.program.to_owned(), limit };
        let Some(_turn) = POOL.slow_turns.take() else {
            return Err(stopped(format!("{SLOW_WAITING_MAX} others that take long wait already")));
        };
        let began = Instant::now();
        let asked = POOL.slow.ask(work, Bound::Slow)?;
        pace.slow.store(began.elapsed() > QUICK / 2, Ordering::Relaxed);
        match asked {
            WorkerAnswer::Answered(outputs) => outputs,
            WorkerAnswer::Late => Err(stopped("longer than 5 s".into())),
            WorkerAnswer::Died(why) => Err(stopped(why)),
        }
    })
}

struct Pool {
    quick: Lane,
    slow: Lane,
    slow_turns: Turns,
}

/// Workers of one kind.
struct Lane {
    mib: u64,
    /// The last used last.
    idle: Mutex<Vec<Worker>>,
}

#[derive(Clone, Copy)]
enum Bound {
    Quick,
    Slow,
}

/// How a worker answered.
enum WorkerAnswer {
    Answered(Result<Vec<String>, Error>),
    /// It had to be ended.
    Late,
    /// It ended, and why.
    Died(String),
}

impl Lane {
    const fn new(mib: u64) -> Self {
        Self { mib, idle: Mutex::new(Vec::new()) }
    }

    fn ask(&self, work: Work<'_>, bound: Bound) -> Result<WorkerAnswer, Error> {
        let none = |e: io::Error| Error::Failed {
            program: work.program.to_owned(),
            message: format!("no process can be started to run it: {e}"),
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // Somebody else may have ended it meanwhile.
        let alive = idle.and_then(|mut worker| matches!(worker.child.try_wait(), Ok(None)).then_some(worker));
        let mut worker = alive.map_or_else(|| Worker::start(self.mib), Ok).map_err(none)?;
        let asked = worker.ask(work, bound, self.mib);
        if matches!(asked, WorkerAnswer::Answered(_)) {
            worker.used = Instant::now();
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(worker);
            let old: Vec<Worker> = idle.extract_if(.., |worker| worker.used.elapsed() > IDLE).collect();
            drop(idle);
            drop(old);
        }
        Ok(asked)
    }
}

/// One process. Dropped, it is ended.
struct Worker {
    child: Child,
    socket: BufReader<UnixStream>,
    stderr: Option<ChildStderr>,
    used: Instant,
    /// Processor time as it was last looked at, and how long runs took since.
    cpu: (Duration, Duration),
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Why the next bytes of an answer do not come.
enum Broken {
    Late,
    Died,
}

impl Worker {
    fn start(mib: u64) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(LOOK))?;
        ours.set_write_timeout(Some(LOOK))?;
        let mut child = Command::new(BINARY.get().ok_or(io::ErrorKind::NotFound)?)
            .arg0("bellpull")
            .args([ARGUMENT, &mib.to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take();
        let (socket, used) = (BufReader::with_capacity(64 << 10, ours), Instant::now());
        Ok(Self { child, socket, stderr, used, cpu: Default::default() })
    }

    fn ask(&mut self, work: Work<'_>, bound: Bound, mib: u64) -> WorkerAnswer {
        if self.cpu.1 > QUICK / 5 {
            self.cpu = (self.processor_time(), Duration::ZERO);
        }
        let began = Instant::now();
        let answered = self.answer(work, RunClock { began, bound });
        self.cpu.1 += began.elapsed();
        match answered {
            Ok(outputs) => WorkerAnswer::Answered(outputs),
            Err(Broken::Late) => WorkerAnswer::Late,
            Err(Broken::Died) => WorkerAnswer::Died(self.why(mib)),
        }
    }

    fn answer(&mut self, work: Work<'_>, clock: RunClock) -> Result<Result<Vec<String>, Error>, Broken> {
        let Work { program, input, .. } = work;
        self.send(&Request::head(work), clock)?;
        self.send(input, clock)?;
        let (mut outputs, mut bytes) = (Vec::new(), 0);
        let program = || program.to_owned();
        loop {
            let mut head = [0; 5];
            self.receive(&mut head, clock)?;
            // One that gives outputs all the time never makes anybody wait.
            self.in_time(clock)?;
            let [kind, length @ ..] = head;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            bytes += length;
            if bytes > (2 * input.len()).max(OUTPUT_BYTES) {
                // Not what it was about to say either: another worker answers the next one.
                return Err(Broken::Late);
            }
            let mut text = vec![0; length];
            self.receive(&mut text, clock)?;
            let text = String::from_utf8(text).map_err(|_| Broken::Died)?;
            match kind {
                OUTPUT => outputs.push(text),
                END => return Ok(Ok(outputs)),
                FAILED => return Ok(Err(Error::Failed { program: program(), message: text })),
                NO_JSON => return Ok(Err(Error::Json { program: program(), message: text })),
                _ => return Ok(Err(Error::Runaway { program: program(), limit: text })),
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8], clock: RunClock) -> Result<(), Broken> {
        while !bytes.is_empty() {
            match self.socket.get_mut().write(bytes) {
                Ok(0) => return Err(Broken::Died),
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) => self.wait(&error, clock)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut into: &mut [u8], clock: RunClock) -> Result<(), Broken> {
        while !into.is_empty() {
            match self.socket.read(into) {
                Ok(0) => return Err(Broken::Died),
                Ok(count) => into = into.get_mut(count..).unwrap_or_default(),
                Err(error) => self.wait(&error, clock)?,
            }
        }
        Ok(())
    }

    /// Nothing moved for a moment: whether it may go on.
    fn wait(&self, error: &io::Error, clock: RunClock) -> Result<(), Broken> {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => self.in_time(clock),
            _ => Err(Broken::Died),
        }
    }

    fn in_time(&self, RunClock { began, bound }: RunClock) -> Result<(), Broken> {
        let took = began.elapsed();
        let late = match bound {
            Bound::Slow => took > SLOW,
            // On a machine that has much to do it may have got less than it needs.
            Bound::Quick => {
                let computed = || self.processor_time().saturating_sub(self.cpu.0 + self.cpu.1);
                took > QUICK_WALL || took > QUICK && computed() > QUICK / 2
            }
        };
        if late { Err(Broken::Late) } else { Ok(()) }
    }

    /// Of its whole life (proc_pid_stat(5): fields 14 and 15, in hundredths of a second).
    fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// Why it ended, from what it said on its standard error.
    fn why(&mut self, mib: u64) -> String {
        const SAID_BYTES: u64 = 4096;
        let _ = self.child.kill();
        let status = self.child.wait();
        let mut said = Vec::new();
        if let Some(stderr) = self.stderr.take() {
            let _ = stderr.take(SAID_BYTES).read_to_end(&mut said);
        }
        let said = String::from_utf8_lossy(&said);
        if said.contains("overflowed its stack") {
            "values nested too deep".into()
        } else if said.contains("memory allocation") {
            format!("more than {mib} MiB of memory")
        } else {
            match status {
                Ok(status) => format!("its process ended: {status}"),
                Err(error) => format!("its process ended: {error}"),
            }
        }
    }
}

/// Since when a run goes on, and how long it may.
#[derive(Clone, Copy)]
struct RunClock {
    began: Instant,
    bound: Bound,
}

/// Turns in the order in which they were asked for, from threads.
struct Turns {
    max: usize,
    line: Mutex<TurnLine>,
    moved: Condvar,
}

#[derive(Default)]
struct TurnLine {
    running: usize,
    waiting: VecDeque<u64>,
    next: u64,
}

struct HeldTurn<'a>(&'a Turns);

impl Turns {
    const fn new(max: usize) -> Self {
        let line = TurnLine { running: 0, waiting: VecDeque::new(), next: 0 };
        Self { max, line: Mutex::new(line), moved: Condvar::new() }
    }

    /// `None` where too many wait.
    fn take(&self) -> Option<HeldTurn<'_>> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.waiting.len() >= SLOW_WAITING_MAX {
            return None;
        }
        let number = line.next;
        line.next += 1;
        line.waiting.push_back(number);
        let waits = |line: &mut TurnLine| line.running >= self.max || line.waiting.front() != Some(&number);
        let mut line = self.moved.wait_while(line, waits).unwrap_or_else(PoisonError::into_inner);
        line.waiting.pop_front();
        line.running += 1;
        drop(line);
        // There may be another turn for the next one.
        self.moved.notify_all();
        Some(HeldTurn(self))
    }
}

impl Drop for HeldTurn<'_> {
    fn drop(&mut self) {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner).running -= 1;
        self.0.moved.notify_all();
    }
}
