//! A value of a program: what jq makes of an index, an assignment or an operator, and its words where that is an error.
//!
//! jaq's own value differs from jq's where people notice: nothing can be assigned into null or behind the end of an array, a
//! fraction is not an index, 3 / 1 is `3.0`, and what is not a number in JSON is written all the same.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    iter,
    sync::Arc,
};

use jaq_core::{Exn, ValR, ValX, box_iter::BoxIter, path::Opt, val::Range};
use jaq_json::{Num, Val};
use jaq_std::ValT as _;

pub(super) type Error = jaq_core::Error<Value>;
pub(super) type Made = Result<Value, Error>;

/// What is nested deeper is an error wherever something is made of it (jq's own limit).
pub(super) const DEPTH_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Value(pub Val);

impl Value {
    pub fn null() -> Self {
        Self(Val::Null)
    }

    pub fn text(text: impl Into<String>) -> Self {
        Self(Val::utf8_str(text.into().into_bytes()))
    }

    pub fn object(pairs: impl IntoIterator<Item = (&'static str, Self)>) -> Self {
        Self(Val::obj(pairs.into_iter().map(|(key, value)| (Val::utf8_str(key.as_bytes()), value.0)).collect()))
    }

    pub fn as_str(&self) -> Option<Cow<'_, str>> {
        self.0.as_utf8_bytes().map(String::from_utf8_lossy)
    }

    pub fn as_array(&self) -> Option<&[Val]> {
        if let Val::Arr(items) = &self.0 { Some(items) } else { None }
    }

    pub fn number(&self) -> Option<f64> {
        self.0.as_f64()
    }

    pub fn kind(&self) -> &'static str {
        match self.0 {
            Val::Null => "null",
            Val::Bool(_) => "boolean",
            Val::Num(_) => "number",
            Val::BStr(_) | Val::TStr(_) => "string",
            Val::Arr(_) => "array",
            Val::Obj(_) => "object",
        }
    }

    /// Kind and value, as jq's messages have them: of a long value only the beginning.
    pub fn told(&self) -> String {
        /// Bytes of a value in a message.
        const SHOWN: usize = 29;
        let mut text = self.to_string();
        if text.len() > SHOWN {
            let end = text.pop().filter(|_| !matches!(self.0, Val::Null | Val::Bool(_) | Val::Num(_)));
            let room = SHOWN - 3 - usize::from(end.is_some());
            text.truncate(text.floor_char_boundary(room));
            text.push_str("...");
            text.extend(end);
        }
        format!("{} ({text})", self.kind())
    }

    /// The place that a number stands for in an array; `None` for NaN.
    pub fn place(&self) -> Option<i64> {
        self.0.as_isize().and_then(|at| i64::try_from(at).ok()).or_else(|| self.number().and_then(truncated))
    }

    pub fn cannot_index(&self, index: &Self) -> Error {
        Error::str(format_args!("Cannot index {} with {}", self.kind(), index.told()))
    }

    fn cannot_iterate(&self) -> Error {
        Error::str(format_args!("Cannot iterate over {}", self.told()))
    }

    /// The parts of `{"start": …, "end": …}`, which stands for a slice in a path.
    pub fn as_slice(&self) -> Option<(Self, Self)> {
        let Val::Obj(pairs) = &self.0 else { return None };
        let part = |name: &str| Self(pairs.get(&Val::utf8_str(name.as_bytes().to_vec())).cloned().unwrap_or_default());
        Some((part("start"), part("end")))
    }

    pub fn cannot_slice(&self) -> Error {
        Error::str(format_args!("Cannot index {} with object", self.kind()))
    }

    pub fn child(self, index: &Self) -> Made {
        match (self.0, &index.0) {
            (Val::Null, Val::Null | Val::TStr(_) | Val::Num(_) | Val::Obj(_)) => Ok(Self::null()),
            (Val::Obj(pairs), Val::TStr(_)) => Ok(Self(pairs.get(&index.0).cloned().unwrap_or_default())),
            (Val::Arr(items), Val::Num(_)) => {
                let at = index.place().and_then(|at| match usize::try_from(at) {
                    Ok(at) => Some(at),
                    Err(_) => items.len().checked_sub(usize::try_from(at.unsigned_abs()).ok()?),
                });
                Ok(Self(at.and_then(|at| items.get(at).cloned()).unwrap_or_default()))
            }
            (Val::Arr(items), Val::Arr(_)) => Self(Val::Arr(items)).indices(index),
            (value @ (Val::Arr(_) | Val::TStr(_)), Val::Obj(_)) => {
                let (from, to) = index.as_slice().unwrap_or((Self::null(), Self::null()));
                Self(value).slice(&from, &to)
            }
            (value, _) => Err(Self(value).cannot_index(index)),
        }
    }

    fn slice(self, from: &Self, to: &Self) -> Made {
        match self.0 {
            Val::Null => Ok(Self::null()),
            Val::Arr(items) => {
                let range = bounds(from, to, items.len())?;
                Ok(Self(Val::Arr(Arc::new(items.get(range).unwrap_or_default().to_vec()))))
            }
            Val::TStr(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let range = bounds(from, to, text.chars().count())?;
                let at = |count: usize| text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
                Ok(Self::text(text.get(at(range.start)..at(range.end)).unwrap_or_default()))
            }
            other => Err(Self(other).cannot_slice()),
        }
    }

    /// Where another is found in this one: code points of a text, places of an array.
    pub fn indices(&self, other: &Self) -> Made {
        let places: Vec<usize> = match (&self.0, &other.0) {
            (Val::Null, _) => return Ok(Self::null()),
            (Val::TStr(text), Val::TStr(part)) if !part.is_empty() => {
                let starts = text.iter().enumerate().filter(|(_, byte)| **byte & 0xc0 != 0x80).map(|(at, _)| at);
                starts
                    .enumerate()
                    .filter(|(_, at)| text.get(*at..).is_some_and(|t| t.starts_with(part)))
                    .map(|(n, _)| n)
                    .collect()
            }
            (Val::TStr(_), Val::TStr(_)) => return Ok(Self::null()),
            (Val::Arr(_), Val::Arr(part)) if part.is_empty() => return Ok(Self::null()),
            (Val::Arr(items), Val::Arr(part)) => items
                .windows(part.len())
                .enumerate()
                .filter(|(_, window)| *window == part.as_slice())
                .map(|(n, _)| n)
                .collect(),
            (Val::Arr(items), one) => {
                items.iter().enumerate().filter(|(_, item)| *item == one).map(|(n, _)| n).collect()
            }
            _ => return Err(self.cannot_index(other)),
        };
        Ok(places.into_iter().map(Self::from).collect())
    }
}

pub(super) fn text_of<'v>(value: &'v Value, otherwise: impl FnOnce() -> String) -> Result<Cow<'v, str>, Error> {
    value.as_str().ok_or_else(|| Error::str(otherwise()))
}

/// The places of a slice: fractions count to their end, what is outside is cut off.
pub(super) fn bounds(from: &Value, to: &Value, count: usize) -> Result<std::ops::Range<usize>, Error> {
    let end = i64::try_from(count).unwrap_or(i64::MAX);
    let at = |value: &Value, default: i64, round: fn(f64) -> f64| match &value.0 {
        Val::Null => Ok(default),
        Val::Num(_) => Ok(value.0.as_isize().map_or_else(
            || value.number().map(round).and_then(truncated).unwrap_or(default),
            |at| i64::try_from(at).unwrap_or(default),
        )),
        _ => Err(Error::str("Start and end indices of an array slice must be numbers")),
    };
    let within = |at: i64| usize::try_from(if at < 0 { at.saturating_add(end) } else { at }.clamp(0, end)).unwrap_or(0);
    let from = within(at(from, 0, f64::floor)?);
    Ok(from..within(at(to, end, f64::ceil)?).max(from))
}

/// Towards zero, and no further than the limits; `None` for NaN.
#[expect(clippy::as_conversions, reason = "no other way leads from f64 to an integer; it saturates")]
pub(super) fn truncated(number: f64) -> Option<i64> {
    (!number.is_nan()).then_some(number as i64)
}

impl fmt::Display for Value {
    /// JSON, with jq's way of writing numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_json(&self.0, f)
    }
}

fn write_json(value: &Val, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Val::Null => f.write_str("null"),
        Val::Bool(truth) => write!(f, "{truth}"),
        Val::Num(Num::Float(number)) => write_float(*number, f),
        Val::Num(number) => write!(f, "{number}"),
        Val::BStr(bytes) | Val::TStr(bytes) => write_text(bytes, f),
        Val::Arr(items) => {
            f.write_char('[')?;
            for (at, item) in items.iter().enumerate() {
                f.write_str(if at > 0 { "," } else { "" })?;
                write_json(item, f)?;
            }
            f.write_char(']')
        }
        Val::Obj(pairs) => {
            f.write_char('{')?;
            for (at, (key, value)) in pairs.iter().enumerate() {
                f.write_str(if at > 0 { "," } else { "" })?;
                write_json(key, f)?;
                f.write_char(':')?;
                write_json(value, f)?;
            }
            f.write_char('}')
        }
    }
}

fn write_text(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(&serde_json::to_string(&String::from_utf8_lossy(bytes)).map_err(|_| fmt::Error)?)
}

/// NaN is null and infinity the largest number, since JSON has neither; whole numbers have no point.
fn write_float(number: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    /// Zeros that are written out, of a whole number and behind a point (jq's own limits).
    const ZEROS_MAX: usize = 15;
    const ZEROS_BEHIND_MAX: i32 = 3;
    let number = match number {
        n if n.is_nan() => return f.write_str("null"),
        n => n.clamp(f64::MIN, f64::MAX),
    };
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return f.write_str(&scientific) };
    let exponent: i32 = exponent.parse().map_err(|_| fmt::Error)?;
    let count = digits.bytes().filter(u8::is_ascii_digit).count();
    let most = i32::try_from(count + ZEROS_MAX).unwrap_or(i32::MAX);
    if (-1 - ZEROS_BEHIND_MAX..most).contains(&exponent) {
        write!(f, "{number}")
    } else {
        write!(f, "{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
    }
}

impl jaq_core::ValT for Value {
    fn from_num(text: &str) -> ValR<Self> {
        Val::from_num(text).map(Self).map_err(|e| Error::str(e.to_string()))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(pairs: I) -> ValR<Self> {
        let pair = |(key, value): (Self, Self)| match key.0 {
            Val::TStr(_) => Ok((key.0, value.0)),
            _ => Err(Error::str(format_args!("Cannot use {} as object key", key.told()))),
        };
        pairs.into_iter().map(pair).collect::<Result<_, _>>().map(|pairs| Self(Val::obj(pairs)))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        match self.0 {
            Val::Arr(items) => Box::new(
                Arc::unwrap_or_clone(items).into_iter().enumerate().map(|(at, item)| Ok((Self::from(at), Self(item)))),
            ),
            Val::Obj(pairs) => {
                Box::new(Arc::unwrap_or_clone(pairs).into_iter().map(|(key, value)| Ok((Self(key), Self(value)))))
            }
            other => Box::new(iter::once(Err(Self(other).cannot_iterate()))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        match self.0 {
            Val::Arr(items) => Box::new(Arc::unwrap_or_clone(items).into_iter().map(|item| Ok(Self(item)))),
            Val::Obj(pairs) => Box::new(Arc::unwrap_or_clone(pairs).into_iter().map(|(_, value)| Ok(Self(value)))),
            other => Box::new(iter::once(Err(Self(other).cannot_iterate()))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        self.child(index)
    }

    fn range(self, range: Range<&Self>) -> ValR<Self> {
        let null = Self::null();
        self.slice(range.start.unwrap_or(&null), range.end.unwrap_or(&null))
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match self.0 {
            Val::Arr(items) => {
                let items = Arc::unwrap_or_clone(items).into_iter().filter_map(|item| f(Self(item)).next());
                items.collect()
            }
            Val::Obj(pairs) => {
                let made = Arc::unwrap_or_clone(pairs)
                    .into_iter()
                    .filter_map(|(key, value)| f(Self(value)).next().map(|value| value.map(|value| (key, value.0))));
                Ok(Self(Val::obj(made.collect::<Result<_, Exn<'_, Self>>>()?)))
            }
            other => opt.fail(Self(other), |value| Exn::from(value.cannot_iterate())),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let fits = match opt {
            Opt::Optional => self.clone().child(index).is_ok(),
            Opt::Essential => true,
        };
        if fits { self.with_child(index, |child| f(child).next().transpose()) } else { Ok(self) }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<&Self>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let null = Self::null();
        let (from, to) = (range.start.unwrap_or(&null), range.end.unwrap_or(&null));
        let fits = match opt {
            Opt::Optional => self.clone().slice(from, to).is_ok(),
            Opt::Essential => true,
        };
        if fits { self.with_slice(from, to, |part| f(part).next().transpose()) } else { Ok(self) }
    }

    fn as_bool(&self) -> bool {
        !matches!(self.0, Val::Null | Val::Bool(false))
    }

    fn into_string(self) -> Self {
        match self.0 {
            Val::TStr(_) => self,
            _ => Self::text(self.to_string()),
        }
    }
}

impl jaq_std::ValT for Value {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        self.0.into_seq::<Vec<Val>>().map(|items| items.into_iter().map(Self).collect()).map_err(Self)
    }

    fn is_int(&self) -> bool {
        self.0.is_int()
    }

    fn as_isize(&self) -> Option<isize> {
        self.0.as_isize()
    }

    fn as_f64(&self) -> Option<f64> {
        self.0.as_f64()
    }

    fn is_utf8_str(&self) -> bool {
        self.0.is_utf8_str()
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        self.0.as_bytes()
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        Self(self.0.as_sub_str(sub))
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self(Val::from_utf8_bytes(bytes))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self(Val::from(truth))
    }
}

impl From<isize> for Value {
    fn from(number: isize) -> Self {
        Self(Val::from(number))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self(Val::from(number))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self(Val::from(number))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Range<Self>> for Value {
    fn from(range: Range<Self>) -> Self {
        let part = |part: Option<Self>| part.unwrap_or_else(Self::null);
        Self::object([("start", part(range.start)), ("end", part(range.end))])
    }
}

impl FromIterator<Self> for Value {
    fn from_iter<T: IntoIterator<Item = Self>>(items: T) -> Self {
        Self(items.into_iter().map(|item| item.0).collect())
    }
}
