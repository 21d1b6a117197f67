//! jq programs: what is refused, how they are compiled, and how a runaway is stopped.

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
    load::{
        self, Arena, File, Loader,
        lex::StrPart,
        parse::{BinaryOp, Def, Pattern, Term},
    },
};
use jaq_json::Val;
use tokio::time::Instant;

use super::{CompileError, Error};

/// Term evaluations of one run: some 50 for each of 100,000 records, and a few seconds at the most.
const STEPS_MAX: u64 = 10_000_000;
/// A run holds up a thread; longer than this it is a runaway.
const DEADLINE: Duration = Duration::from_secs(5);
/// Steps between looks at the clock: a look costs as much as a few steps.
const STEPS_PER_LOOK: u64 = 4096;
/// Stack that a run may use in a process of its own, which has twice as much; elsewhere threads have 2 MiB.
pub(super) const STACK_BYTES_MAX: usize = 32 << 20;
pub(super) const STACK_BYTES_HERE: usize = 1 << 20;

/// A program's length. What is longer was not written by a person.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Brackets in brackets, and operators in a row: parser and compiler recurse for each.
const TEXT_NESTING_MAX: usize = 200;
const TEXT_OPERATORS_MAX: usize = 4000;
/// What they need for the longest program, and from which length on one is compiled on a stack of its own.
const COMPILE_STACK_BYTES: usize = 128 << 20;
const COMPILE_HERE_BYTES: usize = 400;
/// Outputs of one run: as many as records of a walk.
const OUTPUTS_MAX: usize = 2_000_000;

/// Digits of a number in an input: reading one takes the square of them.
const DIGITS_MAX: usize = 4096;

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
/// jq's own definitions that jaq leaves out.
const MORE_DEFS: &str = "def IN(s): any(s == .; .); \
    def IN(src; s): any(src == s; .); \
    def INDEX(stream; f): reduce stream as $row ({}; .[$row | f | tostring] = $row); \
    def INDEX(f): INDEX(.[]; f);";

/// A compiled program.
pub(super) struct Program {
    text: Arc<str>,
    filter: jaq_core::Filter<Kind>,
}

/// What terms are evaluated with.
struct Kind;

impl DataT for Kind {
    type V<'a> = Val;
    type Data<'a> = Budget<'a>;
}

/// The table of terms, handed out at every evaluation: so here the steps are counted.
#[derive(Clone)]
struct Budget<'a> {
    lut: &'a Lut<Kind>,
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

impl<'a> HasLut<'a, Kind> for Budget<'a> {
    fn lut(&self) -> &'a Lut<Kind> {
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
            let compiled = compiling.map_err(|_| failed("there is no memory to compile it"))?.join();
            compiled.unwrap_or_else(|_| Err(failed("the compiler panicked on it")))
        })
    }

    /// Compiles on this stack.
    pub(super) fn compile(text: &str) -> Result<Self, CompileError> {
        check_size(text)?;
        let mut used = BTreeSet::new();
        // A program that does not parse is left to the loader, whose errors have places.
        match load::parse(text, |p| p.term()) {
            Some(term) => used = check(&term, text)?,
            None if text.trim_start().starts_with("include") || text.trim_start().starts_with("import") => {
                return Err(refusal(text, text.split_whitespace().next().unwrap_or(text), "modules are not available"));
            }
            None => {}
        }
        let arena = Arena::default();
        let modules = Loader::new(prelude(used))
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| load_error(text, errors))?;
        let funs =
            jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs()).filter(|(name, ..)| *name != "range");
        let filter = jaq_core::Compiler::default()
            .with_funs(funs)
            .with_global_vars(["$now"])
            .compile(modules)
            .map_err(|errors| compile_error(text, errors))?;
        Ok(Self { text: text.into(), filter })
    }

    /// Runs over a JSON text, in this process; at most `limit` outputs are asked for, and no more where `output` returns `false`.
    pub(super) fn run_here(
        &self,
        input: &[u8],
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
        let input = jaq_json::read::parse_single(input).map_err(|e| no_json(e.to_string()))?;
        let meter = Meter::start(stack_max);
        match catch_unwind(AssertUnwindSafe(|| self.outputs(&meter, input, limit, output))) {
            Ok(result) => result,
            Err(panic) => Err(self.stopped(&*panic)),
        }
    }

    fn outputs(
        &self,
        meter: &Meter,
        input: Val,
        limit: usize,
        output: &mut dyn FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let now = crate::clock::Clock::system().now().to_string();
        let ctx = Ctx::<Kind>::new(Budget { lut: &self.filter.lut, meter }, Vars::new([Val::from(now)]));
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

/// Refuses what no parser should recurse into. What stands in strings counts too: there are expressions in them.
fn check_size(text: &str) -> Result<(), CompileError> {
    let refused = |message: String| Err(CompileError { message, excerpt: String::new(), help: None });
    if text.len() > TEXT_BYTES_MAX {
        return refused(format!("a program of {} bytes; {TEXT_BYTES_MAX} are allowed", text.len()));
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > TEXT_NESTING_MAX {
        return refused(format!("brackets are nested {deepest} deep; {TEXT_NESTING_MAX} are allowed"));
    }
    let is_operator = |byte: &u8| b"|,-+*/%=<>?".contains(byte);
    let words = ["if", "def", "reduce", "foreach", "try", "label", "as", "and", "or", "not", "\""];
    let operators = text.bytes().filter(|byte| is_operator(byte)).count()
        + words.iter().map(|word| text.matches(word).count()).sum::<usize>();
    if operators > TEXT_OPERATORS_MAX {
        return refused(format!("about {operators} operators; {TEXT_OPERATORS_MAX} are allowed"));
    }
    Ok(())
}

/// Whether a JSON text has a number that is too long to be read.
fn has_long_number(text: &[u8]) -> bool {
    let (mut digits, mut in_string, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => (in_string, digits) = (!in_string, 0),
            b'0'..=b'9' | b'.' if !in_string => {
                digits += 1;
                if digits > DIGITS_MAX {
                    return true;
                }
            }
            _ => digits = 0,
        }
    }
    false
}

/// An error's value as a person reads it.
fn plain(value: Val) -> String {
    /// A message may carry the whole input.
    const MESSAGE_CHARS_MAX: usize = 300;
    let text = value.to_string();
    let text = serde_json::from_str::<String>(&text).unwrap_or(text);
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// All definitions that are written in jq.
fn definitions() -> Vec<Def<&'static str>> {
    let own = |text| load::parse(text, |p| p.defs()).expect("our own definitions parse");
    let jaq = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    own(RANGE_DEF).into_iter().chain(jaq).chain(own(MORE_DEFS)).collect()
}

/// The known filter that an unknown name most likely meant.
fn nearest(name: &str) -> Option<&'static str> {
    /// A slip for so many characters: short names are too near to each other.
    const CHARACTERS_A_SLIP: usize = 4;
    let natives = jaq_core::funs::<Kind>().chain(jaq_std::funs()).chain(jaq_json::funs()).map(|(native, ..)| native);
    natives
        .chain(definitions().into_iter().map(|def| def.name))
        .filter(|known| !known.starts_with('_') && !REFUSED.iter().any(|(refused, _)| refused == known))
        .map(|known| (strsim::osa_distance(name, known), known))
        .filter(|(slips, _)| slips * CHARACTERS_A_SLIP <= name.len())
        .min()
        .map(|(_, known)| known)
}

/// jq's definitions that a program needs, and those that they need: a tenth of the whole prelude's memory.
fn prelude(mut names: BTreeSet<String>) -> Vec<Def<&'static str>> {
    let all = definitions();
    let mut calls: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for def in &all {
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
    all.into_iter().filter(|def| names.contains(def.name)).collect()
}

/// The name that a term calls, if it does.
fn called<'s>(term: &Term<&'s str>) -> Option<&'s str> {
    match term {
        Term::Call(name, _) | Term::Var(name) => Some(name),
        Term::Str(Some(format), _) => Some(format),
        _ => None,
    }
}

/// Refuses what must not run, and says which names a program uses.
fn check(term: &Term<&str>, text: &str) -> Result<BTreeSet<String>, CompileError> {
    let mut names = BTreeSet::new();
    let mut refused = None;
    walk(term, &mut |term| {
        if let Some(name) = called(term) {
            names.insert(name.to_owned());
            if let Some((_, instead)) = REFUSED.iter().find(|(bad, _)| *bad == name) {
                refused.get_or_insert_with(|| {
                    let mut error = refusal(text, name, "it reaches outside of the expression");
                    error.help = instead.map(str::to_owned);
                    error
                });
            }
        }
        if let Term::Def(defs, _) = term {
            for def in defs.iter().filter(|def| calls_itself(def)) {
                refused
                    .get_or_insert_with(|| refusal(text, def.name, "a definition that calls itself cannot be stopped"));
            }
        }
    });
    refused.map_or(Ok(names), Err)
}

fn calls_itself(def: &Def<&str>) -> bool {
    let mut found = false;
    walk(&def.body, &mut |term| {
        found |= matches!(term, Term::Call(name, args) if *name == def.name && args.len() == def.args.len());
    });
    found
}

fn refusal(text: &str, part: &str, why: &str) -> CompileError {
    CompileError { message: format!("`{part}` is refused: {why}"), excerpt: excerpt(text, part), help: None }
}

/// Calls `see` on a term and all below it.
fn walk<'s>(term: &Term<&'s str>, see: &mut dyn FnMut(&Term<&'s str>)) {
    see(term);
    match term {
        Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_) => {}
        Term::Str(_, parts) => {
            for part in parts {
                if let StrPart::Term(term) = part {
                    walk(term, see);
                }
            }
        }
        Term::Arr(inner) => inner.iter().for_each(|t| walk(t, see)),
        Term::Obj(pairs) => {
            for (key, value) in pairs {
                walk(key, see);
                value.iter().for_each(|t| walk(t, see));
            }
        }
        Term::Neg(inner) | Term::Label(_, inner) => walk(inner, see),
        Term::BinOp(left, op, right) => {
            walk(left, see);
            if let BinaryOp::Pipe(Some(pattern)) = op {
                walk_pattern(pattern, see);
            }
            walk(right, see);
        }
        Term::Fold(_, source, pattern, rest) => {
            walk(source, see);
            walk_pattern(pattern, see);
            rest.iter().for_each(|t| walk(t, see));
        }
        Term::TryCatch(inner, catch) => {
            walk(inner, see);
            catch.iter().for_each(|t| walk(t, see));
        }
        Term::IfThenElse(branches, otherwise) => {
            for (condition, then) in branches {
                walk(condition, see);
                walk(then, see);
            }
            otherwise.iter().for_each(|t| walk(t, see));
        }
        Term::Def(defs, inner) => {
            defs.iter().for_each(|def| walk(&def.body, see));
            walk(inner, see);
        }
        Term::Call(_, args) => args.iter().for_each(|t| walk(t, see)),
        Term::Path(inner, path) => {
            walk(inner, see);
            for (part, _) in &path.0 {
                match part {
                    jaq_core::path::Part::Index(t) => walk(t, see),
                    jaq_core::path::Part::Range(from, to) => from.iter().chain(to).for_each(|t| walk(t, see)),
                }
            }
        }
    }
}

fn walk_pattern<'s>(pattern: &Pattern<&'s str>, see: &mut dyn FnMut(&Term<&'s str>)) {
    match pattern {
        Pattern::Var(_) => {}
        Pattern::Arr(list) => list.iter().for_each(|p| walk_pattern(p, see)),
        Pattern::Obj(pairs) => {
            for (key, pattern) in pairs {
                walk(key, see);
                walk_pattern(pattern, see);
            }
        }
    }
}

/// The line of `text` that holds `part`, with carets beneath it. `part` is a slice of `text`, or empty at its end.
fn excerpt(text: &str, part: &str) -> String {
    let from = part.as_ptr().addr().checked_sub(text.as_ptr().addr()).filter(|at| *at <= text.len());
    let from = from.or_else(|| text.find(part)).unwrap_or(text.len());
    let before = text.get(..from).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let column = text.get(line_start..from).map_or(0, |s| s.chars().count());
    let width = part.lines().next().map_or(1, |s| s.chars().count().max(1));
    format!("{line}\n{}{}", " ".repeat(column), "^".repeat(width))
}

fn load_error(text: &str, errors: load::Errors<&str, ()>) -> CompileError {
    let (message, part) = match errors.into_iter().next().map(|(_, error)| error) {
        Some(load::Error::Lex(list)) => match list.into_iter().next() {
            Some((load::lex::Expect::Delim(open), _)) => (format!("jq: `{open}` is not closed"), open),
            Some((expected, rest)) => (format!("jq: expected {}", expected.as_str()), first_char(rest)),
            None => ("jq: not a program".into(), text),
        },
        Some(load::Error::Parse(list)) => match list.into_iter().next() {
            Some((expected, found)) => (format!("jq: expected {}", expected.as_str()), found),
            None => ("jq: not a program".into(), text),
        },
        Some(load::Error::Io(list)) => {
            let part = list.into_iter().next().map_or(text, |(part, _)| part);
            ("jq: modules are not available".into(), part)
        }
        None => ("jq: not a program".into(), text),
    };
    CompileError { message, excerpt: excerpt(text, part), help: None }
}

fn first_char(text: &str) -> &str {
    text.chars().next().and_then(|c| text.get(..c.len_utf8())).unwrap_or(text)
}

fn compile_error(text: &str, errors: jaq_core::compile::Errors<&str, ()>) -> CompileError {
    use jaq_core::compile::Undefined;
    let first = errors.into_iter().flat_map(|(_, list)| list).next();
    let Some((name, undefined)) = first else {
        return CompileError { message: "jq: not a program".into(), excerpt: text.into(), help: None };
    };
    let shown = match undefined {
        Undefined::Filter(arity) if arity > 0 => format!("{name}/{arity}"),
        _ => name.to_owned(),
    };
    CompileError {
        message: format!("undefined {} `{shown}`", undefined.as_str()),
        excerpt: excerpt(text, name),
        help: nearest(name).map(|near| format!("did you mean `{near}`?")),
    }
}
