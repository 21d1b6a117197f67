//! jq programs: what is refused, how they are compiled, and how a runaway is stopped.

mod check;
mod natives;
mod operators;
mod paths;
mod patterns;
mod syntax;
mod value;

use std::{
    any::Any,
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, OnceLock, Weak},
    thread,
    time::Duration,
};

use jaq_core::{
    Ctx, DataT, Lut, Vars,
    data::HasLut,
    load::{self, Arena, File, Loader, parse::Def},
};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{CompileError, Error};
use check::{TEXT_BYTES_MAX, called, check, check_size, compile_error, excerpt, load_error, refusal, walk};
use value::Value;

/// Term evaluations of one run: some 50 for each of 100,000 records, and a few seconds at the most.
const STEPS_MAX: u64 = 10_000_000;
/// A run holds up a thread; longer than this it is a runaway.
const DEADLINE: Duration = Duration::from_secs(5);
/// Steps between looks at the clock: a look costs as much as a few steps.
const STEPS_PER_LOOK: u64 = 4096;
/// Stack that a run may use in a process of its own, which has twice as much; elsewhere threads have 2 MiB.
pub(super) const STACK_BYTES_MAX: usize = 32 << 20;
pub(super) const STACK_BYTES_HERE: usize = 1 << 20;

/// What they need for the longest program, and from which length on one is compiled on a stack of its own.
const COMPILE_STACK_BYTES: usize = 128 << 20;
const COMPILE_HERE_BYTES: usize = 400;
/// Outputs of one run: as many as records of a walk.
const OUTPUTS_MAX: usize = 2_000_000;

/// Digits of a number in an input: reading one takes the square of them.
const DIGITS_MAX: usize = 4096;

/// What every program sees.
const NOW: &str = "$now";
/// What programs over a page of an answer see, too.
const HEADERS: &str = "$headers";
const STATUS: &str = "$status";
const OF_ANSWER: [&str; 2] = [HEADERS, STATUS];

/// Names that would leave the box; the help says what to use instead.
const REFUSED: &[(&str, Option<&str>)] = &[
    ("env", None),
    ("$ENV", None),
    ("$__prog_args", None),
    ("input", None),
    ("inputs", None),
    ("input_line_number", None),
    ("debug", None),
    ("debug_empty", None),
    ("stderr", None),
    ("stderr_empty", None),
    ("halt", None),
    ("halt_error", None),
    ("now", Some("use `$now`, an RFC 3339 string")),
];

/// `range` as steps that are counted: the native one fills memory between two of them.
const RANGE_DEF: &str = "def range($from; $to; $by): \
    def up: if . < $to then ., (. + $by | up) else {}[] end; \
    def down: if . > $to then ., (. + $by | down) else {}[] end; \
    if $by > 0 then $from | up elif $by < 0 then $from | down else {}[] end;";
/// jq's own definitions that jaq leaves out, or has in another way.
const MORE_DEFS: &str = include_str!("jq/more.jq");

/// A compiled program.
pub(super) struct Program {
    text: Arc<str>,
    filter: jaq_core::Filter<JqData>,
    /// Whether it names what an answer says beside its body.
    pub(super) sees_answer: bool,
}

/// What terms are evaluated with.
struct JqData;

impl DataT for JqData {
    type V<'a> = Value;
    type Data<'a> = Budget<'a>;
}

/// The table of terms, handed out at every evaluation: so here the steps are counted.
#[derive(Clone)]
struct Budget<'a> {
    lut: &'a Lut<JqData>,
    meter: &'a Meter,
}

struct Meter {
    steps: Cell<u64>,
    until: Instant,
    stack: usize,
    stack_max: usize,
}

/// Carried by the unwinding that ends a runaway.
struct Runaway(&'static str);

fn stack_address() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here).addr()
}

impl Meter {
    fn start(stack_max: usize) -> Self {
        Self { steps: Cell::new(0), until: Instant::now() + DEADLINE, stack: stack_address(), stack_max }
    }

    fn tick(&self) {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > STEPS_MAX {
            resume_unwind(Box::new(Runaway("more than 10,000,000 steps")));
        }
        if self.stack.abs_diff(stack_address()) > self.stack_max {
            resume_unwind(Box::new(Runaway("recursion too deep")));
        }
        if steps.is_multiple_of(STEPS_PER_LOOK) && Instant::now() > self.until {
            resume_unwind(Box::new(Runaway("longer than 5 s")));
        }
    }
}

impl<'a> HasLut<'a, JqData> for Budget<'a> {
    fn lut(&self) -> &'a Lut<JqData> {
        self.meter.tick();
        self.lut
    }
}

type Interned = Mutex<HashMap<Arc<str>, Weak<Program>>>;

impl Program {
    /// The one program of this text.
    pub(super) fn interned(text: &str) -> Result<Arc<Self>, CompileError> {
        static INTERNED: OnceLock<Interned> = OnceLock::new();
        let interned = INTERNED.get_or_init(Interned::default);
        let known = interned.lock().expect("no thread panics with it").get(text).and_then(Weak::upgrade);
        if let Some(program) = known {
            return Ok(program);
        }
        let program = Arc::new(Self::compile_apart(text)?);
        let mut interned = interned.lock().expect("no thread panics with it");
        if interned.len().is_power_of_two() {
            interned.retain(|_, program| program.strong_count() > 0);
        }
        interned.insert(program.text.clone(), Arc::downgrade(&program));
        Ok(program)
    }

    /// Compiles on a stack that is large enough for any program that is not refused.
    fn compile_apart(text: &str) -> Result<Self, CompileError> {
        if text.len() < COMPILE_HERE_BYTES {
            return Self::compile(text);
        }
        let failed = |message: &str| CompileError { message: message.into(), excerpt: String::new(), help: None };
        thread::scope(|scope| {
            let builder = thread::Builder::new().stack_size(COMPILE_STACK_BYTES);
            let compiling = builder.spawn_scoped(scope, || Self::compile(text));
            let compiled = compiling.map_err(|_| failed("memory is missing to compile it"))?.join();
            compiled.unwrap_or_else(|_| Err(failed("the compiler panicked on it")))
        })
    }

    /// Compiles on this stack.
    pub(super) fn compile(text: &str) -> Result<Self, CompileError> {
        check_size(text)?;
        let parses = |text: &str| load::parse(text, |p| p.term()).is_some();
        let is_foreign = !parses(text) || text.contains("$__loc__");
        let known = is_foreign.then(|| syntax::rewritten(text)).flatten();
        let known = known.filter(|known| known.len() <= TEXT_BYTES_MAX && parses(known));
        let known = known.as_deref().unwrap_or(text);
        let (filter, sees_answer) = match Self::filter(known, &[NOW]) {
            Ok(filter) => (filter, false),
            // A program that binds the name itself has compiled: this one means the answer's.
            Err(error) => match OF_ANSWER.iter().any(|name| known.contains(name)) {
                true => (Self::filter(known, &[NOW, HEADERS, STATUS])?, true),
                false => return Err(error),
            },
        };
        Ok(Self { text: text.into(), filter, sees_answer })
    }

    fn filter(text: &str, globals: &[&'static str]) -> Result<jaq_core::Filter<JqData>, CompileError> {
        let mut used = BTreeSet::new();
        let first = text.split_whitespace().next().unwrap_or(text);
        if ["include", "import", "module"].contains(&first) {
            return Err(refusal(text, first, "modules are not available"));
        }
        // A program that does not parse is left to the loader, whose errors have places.
        if let Some(term) = load::parse(text, |p| p.term()) {
            used = check(&term, text)?;
        }
        let arena = Arena::default();
        let modules = Loader::new(prelude(used))
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| load_error(text, errors))?;
        jaq_core::Compiler::default()
            .with_funs(natives::all())
            .with_global_vars(globals.iter().copied())
            .compile(modules)
            .map_err(|errors| compile_error(text, errors))
    }

    /// Runs over a JSON text, in this process; at most `limit` outputs are asked for, and no more where `output` returns `false`.
    /// `said` is what an answer says beside its body, as [`Said`](super::Said) writes it.
    pub(super) fn run_here(
        &self,
        input: &[u8],
        said: &str,
        limit: usize,
        stack_max: usize,
        output: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let program = || self.text.to_string();
        let no_json = |e: String| Error::Json { program: program(), message: format!("the input is not JSON: {e}") };
        // Its own reader takes NaN, comments and more; what an answer may be does not depend on who reads it.
        serde_json::from_slice::<serde::de::IgnoredAny>(input).map_err(|e| no_json(e.to_string()))?;
        if has_long_number(input) {
            return Err(no_json(format!("a number of more than {DIGITS_MAX} digits")));
        }
        let input = jaq_json::read::parse_single(input).map(Value).map_err(|e| no_json(e.to_string()))?;
        let globals = self.globals(said).map_err(no_json)?;
        let meter = Meter::start(stack_max);
        match catch_unwind(AssertUnwindSafe(|| self.outputs(&meter, globals, input, limit, output))) {
            Ok(result) => result,
            Err(panic) => Err(self.stopped(&*panic)),
        }
    }

    /// The values of the variables that it was compiled with, in their order.
    fn globals(&self, said: &str) -> Result<Vec<Value>, String> {
        let mut globals = vec![Value::text(crate::clock::Clock::system().now().to_string())];
        if self.sees_answer {
            let said = if said.is_empty() { "[{},null]" } else { said };
            let said: (Box<RawValue>, Box<RawValue>) = serde_json::from_str(said).map_err(|e| e.to_string())?;
            for text in [said.0.get(), said.1.get()] {
                globals.push(Value(jaq_json::read::parse_single(text.as_bytes()).map_err(|e| e.to_string())?));
            }
        }
        Ok(globals)
    }

    fn outputs(
        &self,
        meter: &Meter,
        globals: Vec<Value>,
        input: Value,
        limit: usize,
        output: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let ctx = Ctx::<JqData>::new(Budget { lut: &self.filter.lut, meter }, Vars::new(globals));
        for (count, result) in self.filter.id.run((ctx, input)).take(limit).enumerate() {
            let value = result.map_err(|exception| Error::Failed {
                program: self.text.to_string(),
                message: exception.get_err().map_or_else(|_| "it left its place".into(), |e| plain(e.into_val())),
            })?;
            if count >= OUTPUTS_MAX {
                return Err(Error::Runaway {
                    program: self.text.to_string(),
                    limit: "more than 2,000,000 outputs".into(),
                });
            }
            if !output(&value.to_string()) {
                break;
            }
        }
        Ok(())
    }

    fn stopped(&self, panic: &(dyn Any + Send)) -> Error {
        let program = self.text.to_string();
        match panic.downcast_ref::<Runaway>() {
            Some(Runaway(limit)) => Error::Runaway { program, limit: (*limit).into() },
            None => Error::Failed { program, message: "the interpreter panicked".into() },
        }
    }
}

/// Why a program is refused that names what only jq over a page sees.
pub(super) fn unseen(text: &str) -> CompileError {
    let name = OF_ANSWER.into_iter().find(|name| text.contains(name)).unwrap_or(HEADERS);
    let help =
        "only jq over a page of an answer sees it: `next`, `end`, `total`, `fail` and `retry` of a source over HTTP";
    CompileError {
        message: format!("undefined variable `{name}`"),
        excerpt: excerpt(text, name),
        help: Some(help.into()),
    }
}

/// The bytes that are in no string, with the quotes around those.
fn outside_strings(text: &[u8]) -> impl Iterator<Item = u8> {
    let (mut in_string, mut escaped) = (false, false);
    text.iter().copied().filter(move |byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' if in_string => {
            escaped = true;
            false
        }
        b'"' => {
            in_string = !in_string;
            true
        }
        _ => !in_string,
    })
}

/// Whether a JSON text has a number that is too long to be read.
fn has_long_number(text: &[u8]) -> bool {
    let mut digits = 0;
    outside_strings(text).any(|byte| {
        digits = if byte.is_ascii_digit() || byte == b'.' { digits + 1 } else { 0 };
        digits > DIGITS_MAX
    })
}

/// An error's value as a person reads it.
fn plain(value: Value) -> String {
    /// A message may carry the whole input.
    const MESSAGE_CHARS_MAX: usize = 300;
    let text = value.to_string();
    let text = serde_json::from_str::<String>(&text).unwrap_or(text);
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn is_refused(name: &str) -> bool {
    REFUSED.iter().any(|(refused, _)| *refused == name)
}

/// All definitions that are written in jq, parsed once.
fn definitions() -> &'static [Def<&'static str>] {
    static DEFINITIONS: OnceLock<Vec<Def<&'static str>>> = OnceLock::new();
    DEFINITIONS.get_or_init(|| {
        let own = |text| load::parse(text, |p| p.defs()).expect("our own definitions parse");
        let jaq = jaq_core::defs().chain(jaq_std::defs());
        own(RANGE_DEF).into_iter().chain(jaq).chain(own(MORE_DEFS)).collect()
    })
}

/// The known filter that an unknown name most likely meant.
fn nearest(name: &str) -> Option<&'static str> {
    /// A slip for so many characters: short names are too near to each other.
    const CHARACTERS_A_SLIP: usize = 4;
    natives::all()
        .map(|(native, ..)| native)
        .chain(definitions().iter().map(|def| def.name))
        .filter(|known| !known.starts_with('_') && !is_refused(known))
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(slips, _)| slips * CHARACTERS_A_SLIP <= name.len())
        .min()
        .map(|(_, known)| known)
}

/// jq's definitions that a program needs, and those that they need: a tenth of the whole prelude's memory.
fn prelude(mut names: BTreeSet<String>) -> Vec<Def<&'static str>> {
    let all = definitions();
    let mut calls: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for def in all {
        let into = calls.entry(def.name).or_default();
        walk(&def.body, &mut |term| into.extend(called(term).map(str::to_owned)));
    }
    // What operators and syntax stand for.
    names.extend(["empty", "error", "true", "false", "not", "null"].map(str::to_owned));
    let mut fresh: Vec<String> = names.iter().cloned().collect();
    while let Some(name) = fresh.pop() {
        for callee in calls.get(name.as_str()).into_iter().flatten() {
            if names.insert(callee.clone()) {
                fresh.push(callee.clone());
            }
        }
    }
    all.iter().filter(|def| names.contains(def.name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_passed_over() {
        for (text, outside) in [
            (r#"{"a[":1,"b\"{":[2]}"#, r#"{"":1,"":[2]}"#),
            (r#"["\\",3]"#, r#"["",3]"#),
            (r#"["é☆\\\"]",4"#, r#"["",4"#),
            ("", ""),
        ] {
            assert_eq!(
                String::from_utf8(outside_strings(text.as_bytes()).collect()).expect("UTF-8"),
                outside,
                "{text}"
            );
        }
    }
}
