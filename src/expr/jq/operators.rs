//! What operators make of two values.

use std::{
    ops::{Add, Div, Mul, Neg, Rem, Sub},
    sync::Arc,
};

use jaq_json::{Map, Val};

use super::value::{DEPTH_MAX, Error, Made, Value, truncated};

/// Bytes of a text that is made by repeating one (jq's own limit).
const REPEATED_MAX: usize = 2_147_483_647;

/// What is in one operand or the other of an operator that does not take them.
fn cannot(left: &Value, right: &Value, what: &str) -> Made {
    Err(Error::str(format_args!("{} and {} cannot be {what}", left.told(), right.told())))
}

impl Add for Value {
    type Output = Made;

    fn add(self, other: Self) -> Made {
        match (&self.0, &other.0) {
            (Val::Null, _) | (_, Val::Null) | (Val::Num(_), Val::Num(_)) => {}
            (Val::TStr(_), Val::TStr(_)) | (Val::Arr(_), Val::Arr(_)) | (Val::Obj(_), Val::Obj(_)) => {}
            _ => return cannot(&self, &other, "added"),
        }
        (self.0 + other.0).map(Self).map_err(|e| Error::str(e.to_string()))
    }
}

impl Sub for Value {
    type Output = Made;

    fn sub(self, other: Self) -> Made {
        match (&self.0, &other.0) {
            (Val::Num(_), Val::Num(_)) | (Val::Arr(_), Val::Arr(_)) => {
                (self.0 - other.0).map(Self).map_err(|e| Error::str(e.to_string()))
            }
            _ => cannot(&self, &other, "subtracted"),
        }
    }
}

impl Mul for Value {
    type Output = Made;

    fn mul(self, other: Self) -> Made {
        match (self.0, other.0) {
            (Val::Num(left), Val::Num(right)) => Ok(Self(Val::Num(left * right))),
            (text @ Val::TStr(_), number @ Val::Num(_)) | (number @ Val::Num(_), text @ Val::TStr(_)) => {
                repeated(&Self(text), &Self(number))
            }
            (Val::Obj(left), Val::Obj(right)) => merged(left, &right, 0).map(|pairs| Self(Val::Obj(pairs))),
            (left, right) => cannot(&Self(left), &Self(right), "multiplied"),
        }
    }
}

fn repeated(text: &Value, times: &Value) -> Made {
    let Some(times) = times.number().filter(|times| *times >= 0.0) else { return Ok(Value::null()) };
    let text = text.as_str().unwrap_or_default();
    if text.is_empty() {
        return Ok(Value::text(""));
    }
    let times = truncated(times).and_then(|times| usize::try_from(times).ok()).unwrap_or(usize::MAX);
    if times.saturating_mul(text.len()) > REPEATED_MAX {
        return Err(Error::str("Repeat string result too long"));
    }
    Ok(Value::text(text.repeat(times)))
}

fn merged(mut left: Arc<Map>, right: &Map, depth: usize) -> Result<Arc<Map>, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::str("Object merge too deep"));
    }
    let pairs = Arc::make_mut(&mut left);
    for (key, value) in right {
        let new = match (pairs.get_mut(key), value) {
            (Some(Val::Obj(old)), Val::Obj(new)) => Val::Obj(merged(std::mem::take(old), new, depth + 1)?),
            _ => value.clone(),
        };
        pairs.insert(key.clone(), new);
    }
    Ok(left)
}

impl Div for Value {
    type Output = Made;

    fn div(self, other: Self) -> Made {
        match (&self.0, &other.0) {
            (Val::Num(_), Val::Num(_)) if other.number() == Some(0.0) => {
                cannot(&self, &other, "divided because the divisor is zero")
            }
            (Val::Num(_), Val::Num(_)) | (Val::TStr(_), Val::TStr(_)) => {
                (self.0 / other.0).map(Self).map_err(|e| Error::str(e.to_string()))
            }
            _ => cannot(&self, &other, "divided"),
        }
    }
}

impl Rem for Value {
    type Output = Made;

    /// Of whole numbers, as jq has it: fractions are cut off.
    fn rem(self, other: Self) -> Made {
        match (self.number(), other.number()) {
            (Some(left), Some(right)) if left.is_nan() || right.is_nan() => Ok(Self::from(f64::NAN)),
            (Some(_), Some(_)) => {
                let (left, right) = (self.place().unwrap_or(0), other.place().unwrap_or(0));
                if right == 0 {
                    return cannot(&self, &other, "divided (remainder) because the divisor is zero");
                }
                Ok(Self::from(isize::try_from(left.checked_rem(right).unwrap_or(0)).unwrap_or(0)))
            }
            _ => cannot(&self, &other, "divided"),
        }
    }
}

impl Neg for Value {
    type Output = Made;

    fn neg(self) -> Made {
        match self.0 {
            Val::Num(number) => Ok(Self(Val::Num(-number))),
            other => Err(Error::str(format_args!("{} cannot be negated", Self(other).told()))),
        }
    }
}

/// For `contains`: jq's own rules.
pub(super) fn contains(value: &Val, part: &Val, depth: usize) -> Result<bool, Error> {
    if depth > DEPTH_MAX {
        return Err(Error::str("Containment check too deep"));
    }
    Ok(match (value, part) {
        (Val::TStr(text), Val::TStr(part)) => String::from_utf8_lossy(text).contains(&*String::from_utf8_lossy(part)),
        (Val::Arr(items), Val::Arr(parts)) => {
            for part in parts.iter() {
                let mut found = false;
                for item in items.iter() {
                    found = found || (same_kind(item, part) && contains(item, part, depth + 1)?);
                }
                if !found {
                    return Ok(false);
                }
            }
            true
        }
        (Val::Obj(pairs), Val::Obj(parts)) => {
            for (key, part) in parts.iter() {
                match pairs.get(key) {
                    Some(value) if same_kind(value, part) && contains(value, part, depth + 1)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        _ => value == part,
    })
}

pub(super) fn same_kind(left: &Val, right: &Val) -> bool {
    std::mem::discriminant(left) == std::mem::discriminant(right)
}
