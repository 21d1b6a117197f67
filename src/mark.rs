//! Marks of `since`: how far a source has been read. Pure.

use chrono::DateTime;
use serde_json::Value as Json;

use crate::{
    config::{Order, Since},
    extract::Parsed,
    model::{Mark, Timestamp},
};

/// The mark after another record of an accepted answer: the higher of the known one and the record's. A time later than the
/// answer's `Date` is clamped to it: a record from the future must not hide those that come before it.
pub fn advance(
    since: &Since,
    highest: &mut Option<Mark>,
    record: &Parsed,
    date: Option<Timestamp>,
) -> Result<(), String> {
    let found = since.from.first(&record.value).map_err(|e| format!("`since.from`: {e}"))?;
    let (mark, is_number) = match found {
        None | Some(Json::Null) => return Ok(()),
        Some(Json::String(text)) => (text, false),
        Some(Json::Number(number)) => (number.to_string(), true),
        Some(_) => {
            return Err(format!("`since.from` gives no string or number for the record {:?}", record.key));
        }
    };
    let mark = match (since.order, date, time(&mark)) {
        (Order::Time { .. }, _, None) => {
            return Err(format!("`since.from` gives {mark:?}, which is not an RFC 3339 time"));
        }
        (Order::Time { .. }, Some(date), Some(at)) if at > date => date.to_string(),
        (Order::Number { .. }, ..) if digits(&mark).is_none() => {
            return Err(format!("`since.from` gives {mark:?}, which is not a whole number"));
        }
        _ => mark,
    };
    // An earlier version kept no type.
    let is_told_more = |known: &Mark| known.is_number.is_none() && known.text == mark;
    if highest.as_ref().is_none_or(|known| higher(since.order, &mark, &known.text) || is_told_more(known)) {
        *highest = Some(Mark { text: mark, is_number: Some(is_number) });
    }
    Ok(())
}

/// What is sent: the mark less the overlap; `start` before there is a mark.
pub fn to_send(since: &Since, mark: Option<&Mark>) -> Option<Mark> {
    let Some(Mark { text: mark, is_number }) = mark else { return since.start.clone() };
    let text = match since.order {
        Order::Time { overlap } if !overlap.is_zero() => {
            let back = i64::try_from(overlap.as_millis()).unwrap_or(i64::MAX);
            time(mark).map_or_else(|| mark.clone(), |at| at.plus_ms(-back).to_string())
        }
        Order::Number { overlap } if overlap > 0 => {
            // Beyond 128 bits a mark is sent as it is: then the source's own order counts.
            mark.parse::<i128>().map_or_else(|_| mark.clone(), |n| n.saturating_sub(overlap.into()).to_string())
        }
        _ => mark.clone(),
    };
    Some(Mark { text, is_number: *is_number })
}

fn higher(order: Order, a: &str, b: &str) -> bool {
    match order {
        Order::Text => a > b,
        Order::Time { .. } => time(a) > time(b),
        Order::Number { .. } => match (digits(a), digits(b)) {
            (Some((false, _)), Some((true, _))) => true,
            (Some((true, _)), Some((false, _))) => false,
            (Some((negative, a)), Some((_, b))) => {
                let above = (a.len(), a) > (b.len(), b);
                if negative { !above && a != b } else { above }
            }
            _ => false,
        },
    }
}

/// Whether negative, and the digits without leading zeros: of any length.
fn digits(text: &str) -> Option<(bool, &str)> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let whole = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    whole.then(|| (negative, rest.trim_start_matches('0')))
}

fn time(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| Timestamp::from_utc(at.to_utc()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        expr::Expr,
        http::place::At,
        model::{Entry, Hash},
    };

    fn since(order: Order) -> Since {
        Since {
            at: Some(At::Param("since".into())),
            from: Expr::parse(".m").expect("valid"),
            order,
            start: Some(mark("0")),
        }
    }

    fn mark(text: &str) -> Mark {
        Mark { text: text.into(), is_number: Some(true) }
    }

    fn advance_over(
        order: Order,
        known: &str,
        marks: &[&str],
        date: Option<Timestamp>,
    ) -> Result<Option<String>, String> {
        let hash = Hash::default();
        let mut highest = Some(mark(known));
        let record = |m: &&str| Parsed {
            key: "k".into(),
            entry: Entry { key: hash, raw: hash, canonical: hash },
            value: serde_json::from_str(&format!("{{\"m\":{m}}}")).expect("JSON"),
        };
        marks.iter().map(record).try_for_each(|record| advance(&since(order), &mut highest, &record, date))?;
        Ok(highest.map(|mark| mark.text))
    }

    #[test]
    fn the_highest_mark_counts() {
        let number = Order::Number { overlap: 0 };
        assert_eq!(
            advance_over(number, "9", &["10", "8", "123456789012345678901234567890"], None),
            Ok(Some("123456789012345678901234567890".into()))
        );
        assert_eq!(advance_over(number, "-5", &["-7", "-3"], None), Ok(Some("-3".into())));
        assert!(advance_over(number, "1", &["1.5"], None).is_err());
        let time = Order::Time { overlap: Duration::ZERO };
        let date = Timestamp::from_utc("2026-11-22T12:00:00Z".parse().expect("a time"));
        let marks = ["\"2026-11-22T11:00:00+02:00\"", "\"2099-01-01T00:00:00Z\"", "null"];
        assert_eq!(
            advance_over(time, "2026-11-22T10:00:00Z", &marks, Some(date)),
            Ok(Some("2026-11-22T12:00:00.000Z".into()))
        );
        assert_eq!(advance_over(Order::Text, "b", &["\"a\"", "\"c\""], None), Ok(Some("c".into())));
    }

    #[test]
    fn the_overlap_reaches_back() {
        let number = since(Order::Number { overlap: 10 });
        assert_eq!(to_send(&number, Some(&mark("100"))), Some(mark("90")));
        assert_eq!(to_send(&number, None), Some(mark("0")));
        let time = since(Order::Time { overlap: Duration::from_secs(60) });
        assert_eq!(to_send(&time, Some(&mark("2026-11-22T12:00:00Z"))), Some(mark("2026-11-22T11:59:00.000Z")));
    }

    /// "0012" was sent as 12, and -5 as "-5".
    #[test]
    fn a_mark_keeps_its_type() {
        for (is_number, text, json) in [
            (Some(false), "0012", "\"0012\""),
            (Some(false), "12", "\"12\""),
            (Some(true), "-5", "-5"),
            (Some(true), "18446744073709551616", "18446744073709551616"),
            (None, "12", "12"),
            (None, "-5", "\"-5\""),
        ] {
            let mark = Mark { text: text.into(), is_number };
            assert_eq!(mark.json().to_string(), json);
        }
        let by_number = since(Order::Number { overlap: 0 });
        let record = |m: &str| Parsed {
            key: "k".into(),
            entry: Entry { key: Hash::default(), raw: Hash::default(), canonical: Hash::default() },
            value: serde_json::from_str(&format!("{{\"m\":{m}}}")).expect("JSON"),
        };
        let mut highest = Some(Mark { text: "12".into(), is_number: None });
        for (m, is_number) in [("\"12\"", Some(false)), ("12", Some(false)), ("13", Some(true))] {
            advance(&by_number, &mut highest, &record(m), None).expect("a mark");
            assert_eq!(highest.as_ref().and_then(|mark| mark.is_number), is_number, "{m}");
        }
    }
}
