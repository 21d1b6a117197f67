//! What is refused before anything compiles, and errors with their place.

use std::{collections::BTreeSet, iter};

use jaq_core::load::{
    self,
    lex::StrPart,
    parse::{BinaryOp, Pattern, Term},
};

use super::{super::CompileError, REFUSED, nearest};

/// A program's length. What is longer was not written by a person.
pub(super) const TEXT_BYTES_MAX: usize = 64 << 10;
/// Brackets in brackets, and operators in a row: parser and compiler recurse for each.
const TEXT_NESTING_MAX: usize = 200;
const TEXT_OPERATORS_MAX: usize = 4000;

/// Refuses what no parser should recurse into. What stands in strings counts too: there are expressions in them.
pub(super) fn check_size(text: &str) -> Result<(), CompileError> {
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

/// The name that a term calls, if it does.
pub(super) fn called<'s>(term: &Term<&'s str>) -> Option<&'s str> {
    match term {
        Term::Call(name, _) | Term::Var(name) => Some(name),
        Term::Str(Some(format), _) => Some(format),
        _ => None,
    }
}

/// Refuses what must not run, and says which names a program uses.
pub(super) fn check(term: &Term<&str>, text: &str) -> Result<BTreeSet<String>, CompileError> {
    let mut names = BTreeSet::new();
    let mut refused = None;
    walk(term, &mut |term| {
        let keys: Vec<&Term<&str>> = match term {
            Term::Obj(pairs) => pairs.iter().map(|(key, _)| key).collect(),
            Term::BinOp(_, BinaryOp::Pipe(Some(pattern)), _) | Term::Fold(_, _, pattern, _) => keys_of(pattern),
            _ => Vec::new(),
        };
        if let Some((number, kind)) = keys.into_iter().find_map(no_key) {
            let message = format!("jq: cannot use {kind} ({number}) as object key");
            refused.get_or_insert_with(|| CompileError { message, excerpt: excerpt(text, number), help: None });
        }
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
    });
    refused.map_or(Ok(names), Err)
}

/// The keys that a pattern asks for.
fn keys_of<'p, 's>(pattern: &'p Pattern<&'s str>) -> Vec<&'p Term<&'s str>> {
    match pattern {
        Pattern::Var(_) => Vec::new(),
        Pattern::Arr(list) => list.iter().flat_map(keys_of).collect(),
        Pattern::Obj(pairs) => pairs.iter().flat_map(|(key, below)| iter::once(key).chain(keys_of(below))).collect(),
    }
}

/// What stands for a key and never is one, with its kind.
fn no_key<'s>(key: &Term<&'s str>) -> Option<(&'s str, &'static str)> {
    match key {
        Term::Num(number) => Some((number, "number")),
        Term::Call(name @ ("true" | "false"), _) => Some((name, "boolean")),
        Term::Call(name @ "null", _) => Some((name, "null")),
        _ => None,
    }
}

pub(super) fn refusal(text: &str, part: &str, why: &str) -> CompileError {
    CompileError { message: format!("`{part}` is refused: {why}"), excerpt: excerpt(text, part), help: None }
}

/// Calls `see` on a term and all below it.
pub(super) fn walk<'s>(term: &Term<&'s str>, see: &mut dyn FnMut(&Term<&'s str>)) {
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
pub(super) fn excerpt(text: &str, part: &str) -> String {
    let from = part.as_ptr().addr().checked_sub(text.as_ptr().addr()).filter(|at| *at <= text.len());
    let from = from.or_else(|| text.find(part)).unwrap_or(text.len());
    let before = text.get(..from).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let column = text.get(line_start..from).map_or(0, |s| s.chars().count());
    let width = part.lines().next().map_or(1, |s| s.chars().count().max(1));
    format!("{line}\n{}{}", " ".repeat(column), "^".repeat(width))
}

pub(super) fn load_error(text: &str, errors: load::Errors<&str, ()>) -> CompileError {
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

pub(super) fn compile_error(text: &str, errors: jaq_core::compile::Errors<&str, ()>) -> CompileError {
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
