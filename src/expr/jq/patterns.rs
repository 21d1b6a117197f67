//! Regular expressions, with what jq makes of a match.

use std::{cell::RefCell, ops::Range, rc::Rc};

use jaq_json::Val;
use regex::{Regex, RegexBuilder};

use super::value::{Error, Made, Value, text_of};

/// What flags ask for, beside what they change in the pattern.
struct Wanted {
    pattern: Regex,
    all: bool,
    empty: bool,
}

impl Wanted {
    /// A pattern is compiled once while others do not push it out: records have the same one, again and again.
    fn of(pattern: &Value, flags: &Value) -> Result<Rc<Self>, Error> {
        const KEPT: usize = 32;
        thread_local! {
            static LAST: RefCell<Vec<(String, String, Rc<Wanted>)>> = const { RefCell::new(Vec::new()) };
        }
        let no_text = |value: &Value| format!("{} cannot be matched, as it is not a string", value.told());
        let text = text_of(pattern, || no_text(pattern))?;
        let flags = match flags.0 {
            Val::Null => "".into(),
            _ => text_of(flags, || format!("{} is not a string", flags.told()))?,
        };
        let known = LAST.with_borrow(|last| {
            last.iter().find(|(pattern, with, _)| *pattern == text && *with == flags).map(|(.., wanted)| wanted.clone())
        });
        if let Some(wanted) = known {
            return Ok(wanted);
        }
        let wanted = Rc::new(Self::compile(&text, &flags)?);
        LAST.with_borrow_mut(|last| {
            if last.len() >= KEPT {
                last.remove(0);
            }
            last.push((text.into_owned(), flags.into_owned(), wanted.clone()));
        });
        Ok(wanted)
    }

    fn compile(pattern: &str, flags: &str) -> Result<Self, Error> {
        let mut builder = RegexBuilder::new(pattern);
        let (mut all, mut empty) = (false, true);
        for flag in flags.chars() {
            match flag {
                'g' => all = true,
                'n' => empty = false,
                'i' => drop(builder.case_insensitive(true)),
                'x' => drop(builder.ignore_whitespace(true)),
                's' => drop(builder.dot_matches_new_line(true)),
                'm' => drop(builder.multi_line(true)),
                'p' => drop(builder.dot_matches_new_line(true).multi_line(true)),
                'l' => drop(builder.swap_greed(true)),
                _ => return Err(Error::str(format_args!("{flags} is not a valid modifier string"))),
            }
        }
        let pattern = builder.build().map_err(|e| {
            let why = e.to_string();
            // The last line says it; those before draw the pattern.
            Error::str(format_args!(
                "{pattern} (at offset 0) is not a valid regex: {}",
                why.lines().last().unwrap_or(&why)
            ))
        })?;
        Ok(Self { pattern, all, empty })
    }
}

/// The matches as jq has them, and where they are in bytes.
fn found(value: &Value, pattern: &Value, flags: &Value) -> Result<Vec<(Value, Range<usize>)>, Error> {
    let text = text_of(value, || format!("{} cannot be matched, as it is not a string", value.told()))?;
    let wanted = Wanted::of(pattern, flags)?;
    let mut found = Vec::new();
    let (mut counted_bytes, mut counted_chars) = (0, 0);
    let mut from = 0;
    while let Some(captures) = (from <= text.len()).then(|| wanted.pattern.captures_at(&text, from)).flatten() {
        let Some(whole) = captures.get(0) else { break };
        if wanted.empty || !whole.is_empty() {
            counted_chars += text.get(counted_bytes..whole.start()).map_or(0, |text| text.chars().count());
            counted_bytes = whole.start();
            let part = |part: Option<regex::Match<'_>>| {
                let Some(part) = part else {
                    return [
                        ("offset", Value::from(-1_isize)),
                        ("length", Value::from(0_usize)),
                        ("string", Value::null()),
                    ];
                };
                // A group is never before its match except for look-behind, which these patterns have not.
                let before = text.get(counted_bytes..part.start()).map_or(0, |text| text.chars().count());
                [
                    ("offset", Value::from(counted_chars + before)),
                    ("length", Value::from(part.as_str().chars().count())),
                    ("string", Value::text(part.as_str())),
                ]
            };
            let groups = captures.iter().zip(wanted.pattern.capture_names()).skip(1).map(|(group, name)| {
                let name = name.map_or_else(Value::null, Value::text);
                Value::object(part(group).into_iter().chain([("name", name)]))
            });
            let groups = ("captures", groups.collect());
            found.push((Value::object(part(Some(whole)).into_iter().chain([groups])), whole.range()));
        }
        if !wanted.all {
            break;
        }
        let one = text.get(whole.end()..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
        from = if whole.is_empty() { whole.end() + one } else { whole.end() };
    }
    Ok(found)
}

pub(super) fn matches(value: &Value, pattern: &Value, flags: &Value) -> Made {
    Ok(found(value, pattern, flags)?.into_iter().map(|(matched, _)| matched).collect())
}

/// What is between the matches, and the matches, in turn.
pub(super) fn pieces(value: &Value, pattern: &Value, flags: &Value) -> Made {
    let found = found(value, pattern, flags)?;
    let text = value.as_str().unwrap_or_default();
    let mut pieces = Vec::with_capacity(2 * found.len() + 1);
    let mut last = 0;
    for (matched, place) in found {
        pieces.push(Value::text(text.get(last..place.start).unwrap_or_default()));
        pieces.push(matched);
        last = place.end;
    }
    pieces.push(Value::text(text.get(last..).unwrap_or_default()));
    Ok(pieces.into_iter().collect())
}
