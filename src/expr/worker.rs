//! The process that runs programs: this binary again, without anything of the daemon in it. What a program does to its memory or
//! its stack ends that process alone, and the one who asked is told.
//!
//! A request is answered frame by frame, so that whoever reads may stop listening. All lengths are big-endian.
//!
//! | request | |
//! |---|---|
//! | 4 bytes | length of the program |
//! | 8 bytes | outputs that are wanted at the most |
//! | 8 bytes | length of the input |
//! | 4 bytes | length of what an answer says beside its body |
//! | | program, that, input |
//!
//! | answer, frame | |
//! |---|---|
//! | 1 byte | [`OUTPUT`], [`END`], [`FAILED`], [`RUNAWAY`] or [`NO_JSON`] |
//! | 4 bytes | length of the text |
//! | | an output, or the message of an error |

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{self, BufReader, BufWriter, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    panic,
    process::ExitCode,
    thread,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getppid, setrlimit};

use super::{
    Error, Work,
    jq::{Program, STACK_BYTES_MAX},
};

/// What the binary is called with, before the MiB that it may use.
pub const ARGUMENT: &str = "run-expressions";

pub(super) const OUTPUT: u8 = 0;
pub(super) const END: u8 = 1;
pub(super) const FAILED: u8 = 2;
pub(super) const RUNAWAY: u8 = 3;
pub(super) const NO_JSON: u8 = 4;

/// Values may be nested as deep as this holds; what is nested deeper ends the process.
const STACK_BYTES: usize = 2 * STACK_BYTES_MAX;
/// Programs that are kept compiled.
const PROGRAMS_MAX: usize = 500;
/// How often is looked whether somebody still waits.
const LOOK: Duration = Duration::from_millis(500);

/// Runs what is asked for over the socket that is its standard input, until that is closed.
pub fn serve(mib: &str) -> ExitCode {
    let Ok(mib) = mib.parse::<u64>() else { return ExitCode::from(64) };
    // A program that panics is told as one that failed; nobody reads more.
    panic::set_hook(Box::new(|_| {}));
    let served = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        limit(mib << 20)?;
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        end_with_parent()?;
        answer_all(&socket)
    });
    match served.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::from(70),
    }
}

/// Memory beyond what it has now, no core (which would have data of others in it), and first in line where the machine has none left.
fn limit(bytes: u64) -> io::Result<()> {
    let now = std::fs::read_to_string("/proc/self/status")?;
    let data_kib =
        now.lines().find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let most = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    setrlimit(Resource::Data, most(data_kib.unwrap_or(0) * 1024 + bytes))?;
    setrlimit(Resource::Core, most(0))?;
    // Not everywhere may a process make itself more likely to be killed; it is bounded all the same.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let _ = rustix::process::nice(10);
    Ok(())
}

/// A native that runs for minutes does not see that nobody waits for it any more.
fn end_with_parent() -> io::Result<()> {
    let parent = getppid();
    let watch = move || {
        while getppid() == parent {
            thread::sleep(LOOK);
        }
        std::process::exit(0);
    };
    thread::Builder::new().stack_size(64 << 10).spawn(watch).map(drop)
}

fn answer_all(socket: &UnixStream) -> io::Result<()> {
    let (mut from, mut to) = (BufReader::new(socket), BufWriter::with_capacity(64 << 10, socket));
    let mut programs: HashMap<String, Program> = HashMap::new();
    while let Some(request) = Request::read(&mut from)? {
        let mut write = |kind: u8, text: &str| -> io::Result<()> {
            let length = u32::try_from(text.len()).map_err(io::Error::other)?;
            to.write_all(&[kind])?;
            to.write_all(&length.to_be_bytes())?;
            to.write_all(text.as_bytes())
        };
        let mut gone = None;
        let mut output = |text: &str| {
            if gone.is_none() {
                gone = write(OUTPUT, text).err();
            }
            gone.is_none()
        };
        if programs.len() >= PROGRAMS_MAX {
            programs.clear();
        }
        let compiled = match programs.entry(request.program) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => Program::compile(place.key()).map(|program| place.insert(program)),
        };
        let ended = match compiled {
            Ok(program) => program.run_here(&request.input, &request.said, request.limit, STACK_BYTES_MAX, &mut output),
            Err(error) => Err(Error::Failed { program: String::new(), message: error.message }),
        };
        if let Some(error) = gone {
            return Err(error);
        }
        match ended {
            Ok(()) => write(END, "")?,
            Err(Error::Failed { message, .. }) => write(FAILED, &message)?,
            Err(Error::Runaway { limit, .. }) => write(RUNAWAY, &limit)?,
            Err(Error::Json { message, .. }) => write(NO_JSON, &message)?,
        }
        to.flush()?;
    }
    Ok(())
}

pub(super) struct Request {
    pub program: String,
    pub said: String,
    pub input: Vec<u8>,
    pub limit: usize,
}

impl Request {
    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 4];
        match from.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let program_len = usize::try_from(u32::from_be_bytes(head)).map_err(io::Error::other)?;
        let mut number = || -> io::Result<usize> {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes)?;
            usize::try_from(u64::from_be_bytes(bytes)).map_err(io::Error::other)
        };
        let (limit, input_len) = (number()?, number()?);
        from.read_exact(&mut head)?;
        let said_len = usize::try_from(u32::from_be_bytes(head)).map_err(io::Error::other)?;
        let mut take = |len: usize| -> io::Result<Vec<u8>> {
            let mut bytes = vec![0; len];
            from.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        let (program, said, input) = (take(program_len)?, take(said_len)?, take(input_len)?);
        let said = String::from_utf8(said).map_err(io::Error::other)?;
        Ok(Some(Self { program: String::from_utf8(program).map_err(io::Error::other)?, said, input, limit }))
    }

    /// What comes before the input.
    pub fn head(Work { program, input, said, limit }: Work<'_>) -> Vec<u8> {
        let long = |length: usize| u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes();
        // No file has a program of four billion bytes, and no answer such headers.
        let short = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
        let (program_len, said_len) = (short(program), short(said));
        let numbers = [&program_len[..], &long(limit), &long(input.len()), &said_len].concat();
        [&numbers[..], program.as_bytes(), said.as_bytes()].concat()
    }
}
