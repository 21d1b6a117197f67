//! The log: to journald under systemd, else to standard error, as text or JSON. `RUST_LOG`, else `log.level`, sets what is
//! said.

pub mod kind;
pub mod trace;

use std::{
    io::IsTerminal,
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::OnceLock,
    time::Duration,
};

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing_subscriber::{
    EnvFilter, Registry,
    field::{RecordFields, VisitOutput},
    filter::LevelFilter,
    fmt::{
        self, FormatFields,
        format::{DefaultVisitor, Writer},
    },
    layer::{self, Layer, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// What is said can be changed while the process runs.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Installs the log for the process. `format` of `None` is journald under systemd, else text.
pub fn init(format: Option<Format>, level: Option<&str>) {
    let mut layers: Vec<Box<dyn Layer<Filtered> + Send + Sync>> = Vec::new();
    #[cfg(feature = "otlp")]
    layers.extend(trace::export());
    let (filter, handle) = reload::Layer::new(filter(level));
    layers.push(match format {
        None if is_read_by_journald() => match tracing_journald::layer() {
            // Fields are BRIDGE=, ENDPOINT=, EVENT_ID=, ..., to be asked for by `journalctl BRIDGE=orders`.
            Ok(journal) => lines(journal.with_field_prefix(None)),
            Err(_) => text(false),
        },
        Some(Format::Json) => lines(fmt::layer().json().with_writer(std::io::stderr)),
        _ => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            text(colour)
        }
    });
    // A second installation (tests) changes nothing.
    if tracing_subscriber::registry().with(filter).with(layers).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
    for mistake in of_the_environment().map(|wanted| wanted.mistakes).unwrap_or_default() {
        tracing::warn!("RUST_LOG: {mistake}");
    }
}

/// Whether standard error is the stream that journald reads (systemd.exec(5)): a program that a service started, with a terminal
/// of its own, inherits only the variable.
fn is_read_by_journald() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let own = std::io::stderr().as_fd().try_clone_to_owned().and_then(|own| std::fs::File::from(own).metadata());
    own.is_ok_and(|own| stream == format!("{}:{}", own.dev(), own.ino()))
}

/// What is said at all.
type Filtered = layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;

fn text(colour: bool) -> Box<dyn Layer<Filtered> + Send + Sync> {
    lines(fmt::layer().with_writer(std::io::stderr).fmt_fields(Readable).with_ansi(colour))
}

/// What writes lines knows nothing of spans, which are for the collector.
fn lines(layer: impl Layer<Filtered> + Send + Sync) -> Box<dyn Layer<Filtered> + Send + Sync> {
    #[cfg(feature = "otlp")]
    let layer = layer.with_filter(tracing_subscriber::filter::filter_fn(|metadata| metadata.target() != trace::TARGET));
    Box::new(layer)
}

/// Fields as text: `message_id` is for programs, and the text says the same.
struct Readable;

impl<'w> FormatFields<'w> for Readable {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> std::fmt::Result {
        let mut visitor = WithoutId(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct WithoutId<'w>(DefaultVisitor<'w>);

impl Visit for WithoutId<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != MESSAGE_ID {
            self.0.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.record_error(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.record_debug(field, value);
    }
}

/// The field of [`kind`]; journald has it as `MESSAGE_ID=`.
const MESSAGE_ID: &str = "message_id";

/// Lines of which thousands could come at once: one is said, then one a minute, with how many were left out since.
#[derive(Debug, Default)]
pub struct Seldom {
    said: Option<Instant>,
    left_out: u64,
}

/// One line a minute is noticed, and a day of them can still be read.
const SELDOM: Duration = Duration::from_secs(60);

/// How many lines were left out before one that is said, if any.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut(pub Option<u64>);

impl Seldom {
    pub const fn new() -> Self {
        Self { said: None, left_out: 0 }
    }

    /// Whether this one is said.
    pub fn turn(&mut self) -> Option<LeftOut> {
        if !self.is_time() {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.said = Some(Instant::now());
        Some(LeftOut(self.take()))
    }

    /// How many were left out, when none came after the minute to say so.
    pub fn overdue(&mut self) -> Option<u64> {
        let left_out = if self.is_time() { self.take()? } else { return None };
        self.said = Some(Instant::now());
        Some(left_out)
    }

    fn is_time(&self) -> bool {
        self.said.is_none_or(|at| at.elapsed() >= SELDOM)
    }

    fn take(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.left_out)).filter(|left_out| *left_out > 0)
    }
}

/// Says more or less from now on, where `RUST_LOG` does not decide.
pub fn set_level(level: Option<&str>) {
    if of_the_environment().is_some() {
        tracing::warn!("`log.level` changes nothing: RUST_LOG is set, and decides what is logged");
        return;
    }
    if let Some(handle) = FILTER.get()
        && let Err(error) = handle.reload(filter(level))
    {
        tracing::warn!(%error, "failed to change what is logged");
    }
}

/// sled's own lines are of interest to nobody at `info`.
fn filter(level: Option<&str>) -> EnvFilter {
    let own = || EnvFilter::new(format!("{},sled=warn", level.unwrap_or("info")));
    let wanted = of_the_environment().and_then(|wanted| EnvFilter::try_new(wanted.directives).ok());
    let filter = wanted.unwrap_or_else(own);
    // Spans are no lines: they do not depend on the log's level.
    #[cfg(feature = "otlp")]
    if trace::is_on()
        && let Ok(spans) = format!("{}=info", trace::TARGET).parse()
    {
        return filter.add_directive(spans);
    }
    filter
}

/// What `RUST_LOG` says, and what is wrong with it.
#[derive(Debug, PartialEq, Eq)]
struct LogFilter {
    directives: String,
    mistakes: Vec<String>,
}

/// `None` where it says nothing: then `log.level` counts.
fn of_the_environment() -> Option<LogFilter> {
    let text = std::env::var("RUST_LOG").ok().filter(|text| !text.trim().is_empty())?;
    Some(read_wanted(&text))
}

/// Leaves out what is not a directive. A word that is not a level is a target, and silences all others, so that errors are
/// said all the same unless `off` stands there.
fn read_wanted(text: &str) -> LogFilter {
    let (mut directives, mut mistakes) = (Vec::new(), Vec::new());
    let mut is_whole = false;
    // A comma may stand in the fields of a span.
    let parts: Vec<&str> = if text.contains('[') { vec![text] } else { text.split(',').collect() };
    for part in parts.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let is_level = part.parse::<LevelFilter>().is_ok();
        is_whole |= is_level;
        if let Err(error) = EnvFilter::try_new(part) {
            mistakes.push(format!("{part:?} is left out: {error}; write `info` or `info,bellpull::poller=debug`"));
            continue;
        }
        if !is_level && !part.contains(['=', '[', ':']) && part != env!("CARGO_PKG_NAME") {
            mistakes
                .push(format!("{part:?} is not a level (error, warn, info, debug, trace), and is taken for a target"));
        }
        directives.push(part);
    }
    if directives.is_empty() {
        directives.push("info,sled=warn");
    } else if !is_whole {
        directives.push("error");
    }
    LogFilter { directives: directives.join(","), mistakes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `RUST_LOG=verbose` silenced all, errors too, and `bellpull=loud` was ignored without a word.
    #[test]
    fn mistakes_in_rust_log_are_told_and_silence_no_error() {
        for (text, directives, mistakes) in [
            ("info", "info", 0),
            ("OFF", "OFF", 0),
            ("verbose", "verbose,error", 1),
            ("bellpull=loud", "info,sled=warn", 1),
            ("INFO,bellpull::polller=debug", "INFO,bellpull::polller=debug", 0),
            ("nonsense=[", "info,sled=warn", 1),
            ("bellpull::poller=debug", "bellpull::poller=debug,error", 0),
            ("warn,,bellpull=debug", "warn,bellpull=debug", 0),
            ("warn,bellpull=loud,hyper=info", "warn,hyper=info", 1),
        ] {
            let wanted = read_wanted(text);
            assert_eq!((&*wanted.directives, wanted.mistakes.len()), (directives, mistakes), "{text}: {wanted:?}");
            let filter = EnvFilter::try_new(&wanted.directives).expect("directives");
            assert!(text == "OFF" || filter.max_level_hint() >= Some(LevelFilter::ERROR), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_thousands_one_a_minute_is_said_and_none_is_forgotten() {
        let mut seldom = Seldom::new();
        assert_eq!((seldom.overdue(), seldom.turn()), (None, Some(LeftOut(None))));
        assert!((0..1000).all(|_| seldom.turn().is_none()));
        assert_eq!(seldom.overdue(), None);
        tokio::time::advance(SELDOM).await;
        assert_eq!(seldom.turn(), Some(LeftOut(Some(1000))));
        assert!((0..5).all(|_| seldom.turn().is_none()));
        tokio::time::advance(SELDOM).await;
        // None comes any more: those five are told all the same, once.
        assert_eq!((seldom.overdue(), seldom.overdue()), (Some(5), None));
    }
}
