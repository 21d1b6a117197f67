//! `source.command`: a program whose standard output is the document. There is no shell, and its environment holds what the
//! file gives it and little else: the daemon's own may hold secrets.
//!
//! It runs in a process group of its own, which is killed when the poll ends, however it ends.

use std::{
    process::{ExitStatus, Stdio},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::sleep,
};

use super::{Answer, Ask, Error, ErrorKind, Fetched, http::excerpt};
use crate::{
    decode::{self, Page},
    http::budget::Share,
    model::Hash,
    settings::{
        Item, Table,
        fingerprint::Fingerprint,
        key::keys,
        value::{self, VALUES, Value},
    },
};

const TIMEOUT: Duration = Duration::from_secs(30);
const SIZE_MAX: u64 = 32 << 20;
/// How long what a program wrote may be on its way after it has ended, where a child that it left behind holds the
/// pipe.
const LINGER: Duration = Duration::from_secs(1);
/// Of what it says went wrong, for the message; the rest is read and forgotten.
const STDERR_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 16 << 10;
/// What a program needs of the daemon's environment to find others and to know where it is.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];
/// The depth of an answer's nesting.
pub const DEPTH_MAX: usize = 128;

/// A source as the file defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    argv: Vec<Word>,
    env: Vec<(String, Value)>,
    timeout: Duration,
    size_max: u64,
    /// The codes of success.
    exit: Vec<u8>,
    pub decode: Option<decode::Decoder>,
}

keys! {
    /// A program whose standard output is the document.
    mod command;
    /// Values; the first is the program. The result of `{ jq = "..." }` is one word; with `many = true` each element of the
    /// resulting list is one. Put `--` before words that data decides. Secrets are refused: every user of the machine can read a
    /// program's arguments.
    need ARGV: Vec<Word> = "argv",
        Form::new(
            Shape::Some(&Shape::OneOf(&[Shape::Value, Shape::Table(&value::made_words::FAMILY)])),
            read_argv,
        ),
        "argv = [\"/usr/local/bin/orders\", \"--json\"]";
    /// A table of values. In addition the program gets `PATH`, `HOME`, `LANG`, `LC_ALL` and `TZ` of the daemon's environment, and
    /// nothing else.
    get ENV: Vec<(String, Value)> = "env", VALUES;
    /// Limit until the program ends. What it wrote counts once it has ended and its output was silent for a second (a
    /// quarter of `timeout`, if that is shorter), whatever child of it still holds the output. The children are killed
    /// then.
    or TIMEOUT: Duration = "timeout", SOME_DURATION, || super::TIMEOUT;
    /// Limit of its output.
    or SIZE_MAX: u64 = "size-max", SIZE, || super::SIZE_MAX;
    /// Exit codes that are a success, such as `[0, 1, 2]` of a check whose code says how grave its findings are.
    or EXIT: Vec<u8> = "exit",
        Form::shown_by(Shape::Some(&Shape::Whole(0, 255)), read_exit, |codes| codes.as_slice().into()),
        || vec![0];
    /// How its output becomes a document: [below](#decode).
    maybe DECODE: decode::Decoder = "decode", decode::DECODER, "JSON";
}

impl Source {
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Reads `[bridge.NAME.source.command]`.
    pub fn read(mut table: Table<'_>) -> Option<Self> {
        let (argv, env) = (table.need(&command::ARGV), table.get(&command::ENV).unwrap_or_default());
        let (timeout, size_max) = (table.or(&command::TIMEOUT), table.or(&command::SIZE_MAX));
        let (exit, decode) = (table.or(&command::EXIT), table.get(&command::DECODE));
        table.finish();
        Some(Self { argv: argv?, env, timeout, size_max, exit, decode })
    }

    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        for word in &self.argv {
            text.put(if word.many { "argv.many" } else { "argv" }, &word.value);
        }
        text.put_all("env", &self.env);
        if self.exit != [0] {
            text.put("exit", self.exit.clone());
        }
    }

    /// As 0.1.0 wrote it, which knew no `many`.
    pub fn definition_0_1(&self) -> String {
        let argv: Vec<&Value> = self.argv.iter().map(|word| &word.value).collect();
        format!("command {argv:?} {:?} {:?}", self.env, self.decode)
    }

    pub fn describe(&self) -> String {
        let words: Vec<&str> = self
            .argv
            .iter()
            .map(|word| match &word.value {
                Value::Literal(text) => text.as_str(),
                _ => "(made by jq)",
            })
            .collect();
        format!("run {}", words.join(" "))
    }

    pub fn has_credentials(&self) -> bool {
        self.env.iter().any(|(_, value)| value.is_secret())
    }

    /// Runs it to its end.
    pub async fn fetch(&self, ask: Ask<'_>) -> Result<Fetched, Error> {
        let (program, mut command) = self.command(&ask).await?;
        let wrong = |why: String| Error::from(ErrorKind::Command { program: program.clone(), why });
        let mut child = command.spawn().map_err(|e| wrong(format!("failed to start: {e}")))?;
        let _group = Group::of(&child);
        let (body, told, status) = self.run(&mut child, ask.share).await.map_err(&wrong)?;
        if !status.code().is_some_and(|code| self.exit.iter().any(|known| i32::from(*known) == code)) {
            let told = excerpt(&told);
            return Err(wrong(if told.is_empty() { status.to_string() } else { format!("{status}: {told}") }));
        }
        let page = Page { url: program, content_type: None, hash: Hash::of(&body), body };
        Ok(Fetched::Pages(Answer::document(page, ask.clock.now())))
    }

    /// The program's name and the command, ready to start.
    async fn command(&self, ask: &Ask<'_>) -> Result<(String, Command), Error> {
        let input = ask.input();
        let mut words = Vec::new();
        for word in &self.argv {
            let made = word.value.resolve(&input).await.map_err(ErrorKind::Expr)?;
            if made.len() > 1 && !word.many && !word.value.is_constant() {
                let message =
                    "jq in `argv` gives a list, and one word is wanted: `{ jq = ..., many = true }` takes each as one";
                return Err(ErrorKind::Request(message.into()).into());
            }
            words.extend(made);
        }
        let (program, arguments) =
            words.split_first().ok_or_else(|| ErrorKind::Request("`argv` gives no program".into()))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        for (name, value) in &self.env {
            if let Some(text) = value.resolve(&input).await.map_err(ErrorKind::Expr)?.into_iter().next() {
                command.env(name, text);
            }
        }
        // The group takes its children with it.
        command.process_group(0).kill_on_drop(true);
        Ok((program.clone(), command))
    }

    /// Its output, the beginning of its excuse, and how it ended.
    async fn run(&self, child: &mut Child, share: &mut Share) -> Result<(Bytes, String, ExitStatus), String> {
        let (Some(mut out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("it has no output".into());
        };
        let (mut body, mut told) = (BytesMut::new(), Vec::new());
        let (mut writes, mut excuses, mut status) = (true, true, None);
        // A child may hold the pipes for ever. One that still writes is waited for: half of an output is none.
        let linger = LINGER.min(self.timeout / 4);
        {
            let late = sleep(self.timeout);
            let excuse = beginning(err, &mut told);
            tokio::pin!(late, excuse);
            while writes || excuses || status.is_none() {
                body.reserve(CHUNK_BYTES);
                tokio::select! {
                    read = out.read_buf(&mut body), if writes => writes = self.takes(read, body.len(), share)?,
                    () = &mut excuse, if excuses => excuses = false,
                    ended = child.wait(), if status.is_none() => status = Some(ended.map_err(|e| e.to_string())?),
                    () = sleep(linger), if status.is_some() => break,
                    () = &mut late => {
                        let what = if status.is_some() { "a child that it left behind" } else { "it" };
                        let timeout = crate::settings::units::show(self.timeout);
                        return Err(format!("{what} did not end within {timeout} (`timeout`)"));
                    }
                }
            }
        }
        let status = status.ok_or("it did not end")?;
        Ok((body.freeze(), String::from_utf8_lossy(&told).into_owned(), status))
    }

    /// Whether more of its output may follow what was read; an error beyond `size-max`.
    fn takes(&self, read: std::io::Result<usize>, all: usize, share: &mut Share) -> Result<bool, String> {
        let read = read.map_err(|e| format!("failed to read its output: {e}"))?;
        if u64::try_from(all).unwrap_or(u64::MAX) > self.size_max {
            return Err(format!("its output is larger than {} bytes (`size-max`)", self.size_max));
        }
        if !share.take(u64::try_from(read).unwrap_or(u64::MAX)) {
            return Err("the answers in flight take all of `daemon.memory`".into());
        }
        Ok(read > 0)
    }
}

/// Keeps the first bytes of a stream that is read to its end.
async fn beginning(mut err: impl AsyncRead + Unpin, kept: &mut Vec<u8>) {
    let mut chunk = vec![0; STDERR_BYTES];
    // An excuse that cannot be read is not an error of its own.
    while let Ok(read @ 1..) = err.read(&mut chunk).await {
        let room = STDERR_BYTES.saturating_sub(kept.len()).min(read);
        kept.extend(chunk.iter().take(room));
    }
}

/// A program and what it started. Kills them when dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nobody may be left: then there is nothing to kill.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A value of the command line.
#[derive(Debug, Clone, PartialEq)]
struct Word {
    value: Value,
    /// Each element of what jq makes is a word of its own.
    many: bool,
}

/// A program and its arguments; a secret among them would be seen by every user of the machine.
fn read_argv(item: &Item<'_>) -> Option<Vec<Word>> {
    let all = item.items()?;
    if all.is_empty() {
        item.error(format!("`{}` is empty: its first word is the program", item.path)).report();
        return None;
    }
    let word = |item: &Item<'_>| {
        let (value, many) = item.value_or_many()?;
        if matches!(value, Value::Secret(_)) {
            item.error(format!(
                "`{}` is a secret: every user of the machine can read a program's arguments",
                item.path
            ))
            .help("give it in `env`".into())
            .report();
            return None;
        }
        Some(Word { value, many })
    };
    let words: Vec<Option<Word>> = all.iter().map(word).collect();
    words.into_iter().collect()
}

/// Exit codes; without one no end would be good.
fn read_exit(item: &Item<'_>) -> Option<Vec<u8>> {
    let all = item.items()?;
    if all.is_empty() {
        item.error(format!("`{}` is empty: no end of the program would be a success", item.path))
            .help("leave it out for [0]".into())
            .report();
        return None;
    }
    all.iter().map(|code| code.integer(0..=255).and_then(|code| u8::try_from(code).ok())).collect()
}
