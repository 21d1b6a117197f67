//! What programs call and jq itself does not define in jq: each as its manual says, with its words for errors.

use std::{collections::BTreeSet, sync::OnceLock};

use base64::{Engine as _, alphabet, engine};
use jaq_core::{
    RunPtr,
    native::{Fun, bome, run, v},
};
use jaq_json::Val;

use super::{
    DIGITS_MAX, JqData, definitions, has_long_number,
    operators::{contains, same_kind},
    outside_strings,
    patterns::{matches, pieces},
    value::{DEPTH_MAX, Error, Made, Value, text_of, truncated},
};

/// Everything that programs may call: ours instead of jaq's where both have a name.
pub(super) fn all() -> impl Iterator<Item = Fun<JqData>> {
    let own: Vec<Fun<JqData>> =
        own().into_iter().map(|(name, arity, filter)| run::<JqData>((name, v(arity), filter))).collect();
    let names: BTreeSet<&'static str> = own.iter().map(|(name, ..)| *name).collect();
    // `range` is a definition, whose steps are counted.
    let jaq = jaq_core::funs().chain(jaq_std::funs());
    jaq.filter(move |(name, ..)| *name != "range" && !names.contains(name)).chain(own)
}

/// Name, number of arguments, and what it does.
fn own() -> Vec<(&'static str, usize, RunPtr<JqData>)> {
    vec![
        ("tojson", 0, |cv| bome(Ok(Value::text(cv.1.to_string())))),
        ("fromjson", 0, |cv| bome(from_json(&cv.1))),
        ("length", 0, |cv| bome(length(cv.1))),
        ("tonumber", 0, |cv| bome(to_number(cv.1))),
        ("implode", 0, |cv| bome(implode(&cv.1))),
        ("_told", 0, |cv| bome(Ok(Value::text(cv.1.told())))),
        ("decode_base64", 0, |cv| bome(from_base64(&cv.1))),
        ("decode_uri", 0, |cv| bome(from_uri(&cv.1))),
        ("_nan", 0, |_| bome(Ok(Value::from(f64::NAN)))),
        ("_infinite", 0, |_| bome(Ok(Value::from(f64::INFINITY)))),
        ("_broken_down", 1, |mut cv| {
            let user = cv.0.pop_var();
            bome(broken_down(cv.1, &user))
        }),
        ("builtins", 0, |_| bome(Ok(builtins()))),
        ("contains", 1, |mut cv| {
            let part = cv.0.pop_var();
            bome(has_part(&cv.1, &part))
        }),
        ("has", 1, |mut cv| {
            let key = cv.0.pop_var();
            bome(has(&cv.1, &key))
        }),
        ("indices", 1, |mut cv| {
            let part = cv.0.pop_var();
            bome(cv.1.indices(&part))
        }),
        ("bsearch", 1, |mut cv| {
            let wanted = cv.0.pop_var();
            bome(search(&cv.1, &wanted))
        }),
        ("_join", 1, |mut cv| {
            let separator = cv.0.pop_var();
            bome(join(&cv.1, &separator))
        }),
        ("_setpath", 2, |mut cv| {
            let (new, path) = (cv.0.pop_var(), cv.0.pop_var());
            bome(path_of(&path.0).and_then(|path| cv.1.set_path(path, new)))
        }),
        ("_delpaths", 1, |mut cv| {
            let paths = cv.0.pop_var();
            bome(without(cv.1, &paths))
        }),
        ("_matches", 2, |mut cv| {
            let (flags, pattern) = (cv.0.pop_var(), cv.0.pop_var());
            bome(matches(&cv.1, &pattern, &flags))
        }),
        ("_pieces", 2, |mut cv| {
            let (flags, pattern) = (cv.0.pop_var(), cv.0.pop_var());
            bome(pieces(&cv.1, &pattern, &flags))
        }),
    ]
}

/// One value of strict JSON, as an answer has to be.
fn from_json(value: &Value) -> Made {
    let text = text_of(value, || format!("{} only strings can be parsed", value.told()))?;
    // The one text that jq reads and that is no JSON: it writes null for it.
    if text.trim_start_matches('-').eq_ignore_ascii_case("nan") {
        return Ok(Value::from(f64::NAN));
    }
    let failed = |why: &dyn std::fmt::Display| {
        let start: String = text.chars().take(30).collect();
        Error::str(format_args!("{why} (while parsing '{start}')"))
    };
    serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(|e| failed(&e))?;
    if has_long_number(text.as_bytes()) {
        return Err(failed(&format_args!("a number of more than {DIGITS_MAX} digits")));
    }
    if nesting(text.as_bytes()) > DEPTH_MAX {
        return Err(failed(&"Exceeds depth limit for parsing"));
    }
    jaq_json::read::parse_single(text.as_bytes()).map(Value).map_err(|e| failed(&e))
}

/// How deep the brackets of a JSON text are.
fn nesting(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in outside_strings(text) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn length(value: Value) -> Made {
    Ok(match &value.0 {
        Val::Null => Value::from(0_usize),
        Val::Bool(_) => return Err(Error::str(format_args!("{} has no length", value.told()))),
        Val::Num(_) if value.number().is_some_and(|number| number < 0.0) => return -value,
        Val::Num(_) => value,
        Val::BStr(bytes) | Val::TStr(bytes) => Value::from(String::from_utf8_lossy(bytes).chars().count()),
        Val::Arr(items) => Value::from(items.len()),
        Val::Obj(pairs) => Value::from(pairs.len()),
    })
}

/// A number, or a text that is one and nothing else.
fn to_number(value: Value) -> Made {
    if let Val::Num(_) = value.0 {
        return Ok(value);
    }
    let wrong = || Error::str(format_args!("{} cannot be parsed as a number", value.told()));
    let text = value.as_str().ok_or_else(wrong)?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let of_a_number = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    if text.len() > DIGITS_MAX || !of_a_number {
        return Err(wrong());
    }
    let number: f64 = text.parse().map_err(|_| wrong())?;
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => jaq_core::ValT::from_num(&text),
        Err(_) => Ok(Value::from(number)),
    }
}

fn implode(value: &Value) -> Made {
    let items = value.as_array().ok_or_else(|| Error::str("implode input must be an array"))?;
    let mut text = String::new();
    for item in items {
        let item = Value(item.clone());
        let code = item.number().filter(|code| !code.is_nan()).ok_or_else(|| {
            let what = item.told();
            Error::str(format_args!("{what} can't be imploded, unicode codepoint needs to be numeric"))
        })?;
        let code = u32::try_from(truncated(code).unwrap_or(-1)).ok();
        text.push(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    Ok(Value::text(text))
}

/// Padding may be there or not.
fn from_base64(value: &Value) -> Made {
    const DECODER: engine::GeneralPurpose = engine::GeneralPurpose::new(
        &alphabet::STANDARD,
        engine::GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent),
    );
    let text = text_of(value, || format!("{} is not valid base64 data", value.told()))?;
    match DECODER.decode(text.trim_end_matches('=')) {
        Ok(bytes) => Ok(Value::text(String::from_utf8_lossy(&bytes))),
        Err(base64::DecodeError::InvalidLength(_)) => {
            Err(Error::str(format_args!("{} trailing base64 byte found", value.told())))
        }
        Err(_) => Err(Error::str(format_args!("{} is not valid base64 data", value.told()))),
    }
}

fn from_uri(value: &Value) -> Made {
    let wrong = || Error::str(format_args!("{} is not a valid uri encoding", value.told()));
    let text = value.as_str().ok_or_else(wrong)?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        rest = after;
    }
    String::from_utf8(bytes).map(Value::text).map_err(|_| wrong())
}

/// `name/arity` of all that can be called.
fn builtins() -> Value {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let natives = all().map(|(name, args, _)| (name, args.len()));
        let known = natives.chain(definitions().iter().map(|def| (def.name, def.args.len())));
        let names: BTreeSet<String> = known
            .filter(|(name, _)| !name.starts_with(['_', '@']) && !super::is_refused(name))
            .map(|(name, arity)| format!("{name}/{arity}"))
            .collect();
        names.into_iter().collect()
    });
    names.iter().map(|name| Value::text(name.as_str())).collect()
}

fn has_part(value: &Value, part: &Value) -> Made {
    if !same_kind(&value.0, &part.0) {
        let (left, right) = (value.told(), part.told());
        return Err(Error::str(format_args!("{left} and {right} cannot have their containment checked")));
    }
    contains(&value.0, &part.0, 0).map(Value::from)
}

fn has(value: &Value, key: &Value) -> Made {
    match (&value.0, &key.0) {
        (Val::Obj(pairs), Val::TStr(_)) => Ok(Value::from(pairs.contains_key(&key.0))),
        (Val::Arr(items), Val::Num(_)) => {
            let at = key.number().and_then(truncated).and_then(|at| usize::try_from(at).ok());
            Ok(Value::from(at.is_some_and(|at| at < items.len())))
        }
        _ => Err(Error::str(format_args!("Cannot check whether {} has a {} key", value.kind(), key.kind()))),
    }
}

fn search(value: &Value, wanted: &Value) -> Made {
    let items = value.as_array().ok_or_else(|| Error::str(format_args!("{} cannot be searched from", value.told())))?;
    Ok(match items.binary_search(&wanted.0) {
        Ok(at) => Value::from(at),
        Err(at) => Value::from(-1 - isize::try_from(at).unwrap_or(0)),
    })
}

/// All at once: what is joined one by one is there in all its lengths.
fn join(value: &Value, separator: &Value) -> Made {
    let cannot =
        |left: &Value, right: &Value| Error::str(format_args!("{} and {} cannot be added", left.told(), right.told()));
    let items = value.as_array().ok_or_else(|| Error::str(format_args!("Cannot iterate over {}", value.told())))?;
    let between = match separator.as_str() {
        Some(between) => between,
        None if separator.0 == Val::Null || items.is_empty() => "".into(),
        None => return Err(cannot(&Value::text(""), separator)),
    };
    let mut text = String::new();
    for (at, item) in items.iter().enumerate() {
        text.push_str(if at > 0 { &between } else { "" });
        match item {
            Val::Null => {}
            Val::TStr(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
            Val::Bool(_) | Val::Num(_) => text.push_str(&Value(item.clone()).to_string()),
            _ => return Err(cannot(&Value::text(text), &Value(item.clone()))),
        }
    }
    Ok(Value::text(text))
}

/// A time as seconds or in its parts, of which the last may be left out.
fn broken_down(value: Value, user: &Value) -> Made {
    /// Year, month, day, hours, minutes, seconds, and the days of week and year.
    const PARTS: usize = 8;
    const NEEDED: usize = 3;
    match value.0 {
        Val::Num(_) => Ok(value),
        Val::Arr(mut parts) if parts.len() >= NEEDED && parts.iter().all(|part| matches!(part, Val::Num(_))) => {
            if parts.len() < PARTS {
                std::sync::Arc::make_mut(&mut parts).resize(PARTS, Val::from(0_usize));
            }
            Ok(Value(Val::Arr(parts)))
        }
        _ => {
            let user = user.as_str().unwrap_or_default();
            Err(Error::str(format_args!("{user} requires parsed datetime inputs")))
        }
    }
}

fn path_of(path: &Val) -> Result<&[Val], Error> {
    let Val::Arr(path) = path else { return Err(Error::str("Path must be specified as an array")) };
    if path.len() > DEPTH_MAX { Err(Error::str("Path too deep")) } else { Ok(path) }
}

fn without(value: Value, paths: &Value) -> Made {
    let paths = paths.as_array().ok_or_else(|| Error::str("Paths must be specified as an array"))?;
    let mut paths = paths.iter().map(path_of).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    value.without_paths(&paths)
}
