//! Marks of `since`: how far a source has been read. Pure.

use std::time::Duration;

use chrono::{DateTime, FixedOffset, SecondsFormat, TimeDelta};
use serde_json::Value as Json;

use crate::{
    config::{MARK_OVERLAP, MarkMax, Marks, Order, Since},
    expr::{self, Expr, Said, meant},
    extract::Parsed,
    http::place::At,
    model::{Mark, Timestamp},
};

/// A time further ahead than this is a mistake of the source, such as a birthday in the wrong field, and no difference of clocks.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// A token is committed with the snapshot, and sent with each request.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// The clocks that a time is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// The answer's `Date`.
    pub date: Option<Timestamp>,
    pub now: Timestamp,
}

/// The mark after another record of an accepted answer: the higher of the known one and the record's. A time later than the
/// answer's `Date` is clamped to it: a record from the future must not hide those that come before it. One that is absurd moves
/// nothing, and is told.
pub fn advance(
    since: &Since,
    highest: &mut Option<Mark>,
    record: &Parsed,
    clocks: Clocks,
) -> Result<Option<String>, String> {
    let Marks::Records { from, order, max } = &since.marks else { return Ok(None) };
    let found = from.first(&record.value).map_err(|e| format!("`since.from`: {e}"))?;
    let mark = match found {
        None | Some(Json::Null) => return Ok(None),
        Some(value @ (Json::String(_) | Json::Number(_))) => Mark::of(&value),
        Some(_) => {
            return Err(format!("`since.from` gives no string or number for the record {:?}", record.key));
        }
    };
    let Mark { text, is_json } = mark;
    let at = time(&text);
    match order {
        Order::Time { .. } if at.is_none() => {
            return Err(format!("`since.from` gives {text:?}, which is not an RFC 3339 time"));
        }
        Order::Number { .. } if digits(&text).is_none() => {
            return Err(format!("`since.from` gives {text:?}, which is not a whole number"));
        }
        _ => {}
    }
    if let Some(why) = absurd(*order, max.as_ref(), &text, clocks) {
        return Ok(Some(format!(
            "the record {:?} has the mark {text}, {why}: it does not count as a mark",
            record.key
        )));
    }
    let text = match (order, clocks.date, at) {
        (Order::Time { .. }, Some(date), Some(at)) if at > date => date.to_string(),
        _ => text,
    };
    // An earlier version kept no type.
    let is_told_more = |known: &Mark| known.is_json.is_none() && known.text == text;
    if highest.as_ref().is_none_or(|known| higher(*order, &text, &known.text) || is_told_more(known)) {
        *highest = Some(Mark { text, is_json });
    }
    Ok(None)
}

/// Why a mark is not obeyed.
fn absurd(order: Order, max: Option<&MarkMax>, mark: &str, clocks: Clocks) -> Option<&'static str> {
    const BEYOND: &str = "beyond `since.max`";
    match (order, max) {
        (Order::Number { .. }, Some(MarkMax::Number(max))) => higher(order, mark, max).then_some(BEYOND),
        (Order::Time { .. }, Some(MarkMax::At(max))) => (time(mark)? > *max).then_some(BEYOND),
        (Order::Time { .. }, Some(MarkMax::Ahead(ahead))) => (time(mark)? > clocks.now.plus(*ahead)).then_some(BEYOND),
        (Order::Time { .. }, None) => {
            let today = clocks.date.unwrap_or(clocks.now);
            (time(mark)? > today.plus(AHEAD_MAX)).then_some("more than a day ahead (`since.max`)")
        }
        _ => None,
    }
}

/// A committed mark, unless a `max` that was written since says that it never should have counted.
pub fn obeyed(since: &Since, mark: Option<Mark>, now: Timestamp) -> Option<Mark> {
    let Marks::Records { order, max: Some(max), .. } = &since.marks else { return mark };
    mark.filter(|mark| absurd(*order, Some(max), &mark.text, Clocks { date: None, now }).is_none())
}

/// The mark after a walk whose last page is this document, and what its answer said beside it; the known one where it names none.
pub fn token(
    token: &Expr,
    at: Option<&At>,
    (document, said): (&[u8], &Said),
    known: Option<Mark>,
) -> Result<Option<Mark>, String> {
    let wrong = |what: &str| Err(format!("`since.token` gives {what} for the last page"));
    let found = token.all_of_answer(document, said).map_err(|e: expr::Error| format!("`since.token`: {e}"))?;
    let value = match meant(found.into_iter().next()) {
        Some(Json::Bool(_)) => return wrong("true instead of a token"),
        Some(Json::String(text)) if text.is_empty() => None,
        other => other,
    };
    let Some(value) = value else {
        return match known {
            None => wrong("nothing"),
            known => Ok(known),
        };
    };
    // What cannot be sent must not be committed: every poll would fail from then on.
    if let (Some(At::Param(_) | At::Header(_)), Json::Array(_) | Json::Object(_)) = (at, &value) {
        return wrong("an array or an object (only a place in `json` takes one)");
    }
    let mark = Mark::of(&value);
    if mark.text.len() > TOKEN_BYTES_MAX {
        return wrong(&format!("{} bytes (at most {TOKEN_BYTES_MAX} are kept)", mark.text.len()));
    }
    Ok(Some(mark))
}

/// The mark that a message of a stream names, if it names one.
pub fn of_message(resume: &Expr, document: &[u8]) -> Result<Option<Mark>, String> {
    let found = resume.all_of_text(document).map_err(|e| format!("`resume`: {e}"))?;
    let Some(value) = meant(found.into_iter().next()) else { return Ok(None) };
    let mark = Mark::of(&value);
    match mark.text.len() > TOKEN_BYTES_MAX {
        true => Err(format!("`resume` gives {} bytes (at most {TOKEN_BYTES_MAX} are kept)", mark.text.len())),
        false => Ok(Some(mark)),
    }
}

/// What is sent: the mark less the overlap; `start` before there is a mark. An overlap that the file does not give is left out
/// where the last question with it brought nothing new.
pub fn to_send(since: &Since, mark: Option<&Mark>, exactly: bool) -> Option<Mark> {
    let Some(known) = mark else { return since.start.clone() };
    let Marks::Records { order, .. } = &since.marks else { return Some(known.clone()) };
    let Mark { text: mark, is_json } = known;
    let text = match order {
        Order::Time { overlap: None } if exactly => mark.clone(),
        Order::Time { overlap } => earlier(mark, overlap.unwrap_or(MARK_OVERLAP)).unwrap_or_else(|| mark.clone()),
        Order::Number { overlap } if *overlap > 0 => {
            // Beyond 128 bits a mark is sent as it is: then the source's own order counts.
            mark.parse::<i128>().map_or_else(|_| mark.clone(), |n| n.saturating_sub((*overlap).into()).to_string())
        }
        _ => mark.clone(),
    };
    Some(Mark { text, is_json: *is_json })
}

/// The end of what is asked for from a mark on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Until {
    pub mark: Mark,
    /// It is the window's own end, which is past: nothing comes before it any more. Otherwise it is now.
    pub is_past: bool,
    /// The question reached back by an overlap that the file does not give. Of a source that gives a few records at a time the answer
    /// may then be full of known ones.
    reaches_back: bool,
}

/// Until when is asked, where the file says how long a time the source takes at once.
pub fn until(since: &Since, known: Option<&Mark>, sent: Option<&Mark>, now: Timestamp) -> Option<Until> {
    let (length, sent) = (since.window.as_ref()?.length, sent?);
    let from: DateTime<FixedOffset> = DateTime::parse_from_rfc3339(&sent.text).ok()?;
    let end = from.checked_add_signed(TimeDelta::from_std(length).ok()?)?;
    // A mark may be ahead of this clock.
    let now = now.to_utc().with_timezone(from.offset()).max(from);
    let text = written(end.min(now), &sent.text, length);
    let has_default = matches!(since.marks, Marks::Records { order: Order::Time { overlap: None }, .. });
    let reaches_back = has_default && known.is_some_and(|known| known != sent);
    Some(Until { mark: Mark { text, is_json: Some(false) }, is_past: end <= now, reaches_back })
}

impl Until {
    /// Whether all that lies before it was there to be seen: also by the server's clock.
    pub fn is_over(&self, date: Option<Timestamp>) -> bool {
        let end = time(&self.mark.text);
        self.is_past && date.zip(end).is_none_or(|(date, end)| end <= date)
    }

    /// Whether its end may become the mark after an answer with so many records, of which none has a later mark.
    pub fn passes(&self, records: u64) -> bool {
        records == 0 || !self.reaches_back
    }
}

/// A time before another, in the form that the source has for it.
fn earlier(mark: &str, overlap: Duration) -> Option<String> {
    let at: DateTime<FixedOffset> = DateTime::parse_from_rfc3339(mark).ok()?;
    if overlap.is_zero() {
        return None;
    }
    let at = at.checked_sub_signed(TimeDelta::from_std(overlap).ok()?)?;
    Some(written(at, mark, overlap))
}

/// A time that is so far from a mark, in the mark's own form: some sources read no other one.
fn written(at: DateTime<FixedOffset>, mark: &str, distance: Duration) -> String {
    let digits = mark.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    // Parts of a second need digits for them.
    let digits = if distance.subsec_nanos() > 0 { digits.max(3) } else { digits };
    let form = match digits {
        0 => SecondsFormat::Secs,
        1..=3 => SecondsFormat::Millis,
        4..=6 => SecondsFormat::Micros,
        _ => SecondsFormat::Nanos,
    };
    at.to_rfc3339_opts(form, mark.ends_with(['Z', 'z']))
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
    use super::*;
    use crate::model::{Entry, Hash};

    fn since(order: Order) -> Since {
        limited(order, None)
    }

    fn limited(order: Order, max: Option<MarkMax>) -> Since {
        Since {
            at: Some(At::Param("since".into())),
            marks: Marks::Records { from: Expr::parse(".m").expect("valid"), order, max },
            start: Some(mark("0")),
            reset: Vec::new(),
            window: None,
        }
    }

    fn mark(text: &str) -> Mark {
        Mark { text: text.into(), is_json: Some(true) }
    }

    fn record(m: &str) -> Parsed {
        Parsed {
            key: "k".into(),
            entry: Entry { key: Hash::default(), raw: Hash::default(), canonical: Hash::default() },
            value: serde_json::from_str(&format!("{{\"m\":{m}}}")).expect("JSON"),
        }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    const NOON: &str = "2026-11-22T12:00:00Z";

    fn clocks(date: Option<Timestamp>) -> Clocks {
        Clocks { date, now: at(NOON) }
    }

    fn advance_over(
        order: Order,
        known: &str,
        marks: &[&str],
        date: Option<Timestamp>,
    ) -> Result<Option<String>, String> {
        let mut highest = Some(mark(known));
        for m in marks {
            advance(&since(order), &mut highest, &record(m), clocks(date))?;
        }
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
        let time = Order::Time { overlap: None };
        let date = at(NOON);
        let marks = ["\"2026-11-22T11:00:00+02:00\"", "\"2026-11-22T20:00:00Z\"", "\"2099-01-01T00:00:00Z\"", "null"];
        assert_eq!(
            advance_over(time, "2026-11-22T10:00:00Z", &marks, Some(date)),
            Ok(Some("2026-11-22T12:00:00.000Z".into()))
        );
        assert_eq!(advance_over(Order::Text, "b", &["\"a\"", "\"c\""], None), Ok(Some("c".into())));
    }

    #[test]
    fn the_overlap_reaches_back() {
        let number = since(Order::Number { overlap: 10 });
        assert_eq!(to_send(&number, Some(&mark("100")), true), Some(mark("90")));
        assert_eq!(to_send(&number, None, false), Some(mark("0")));
    }

    /// Of two records of one second the one that came after the poll was never asked for: the mark itself was sent, and many sources
    /// give only what is later. And the time came in another form than the source's own, with an overlap.
    #[test]
    fn a_time_is_asked_for_from_before_it_in_its_own_form() {
        let minute = Some(Duration::from_secs(60));
        for (overlap, mark, sent) in [
            (None, NOON, "2026-11-22T11:59:59Z"),
            (None, "2026-11-22T12:00:00.250+02:00", "2026-11-22T11:59:59.250+02:00"),
            (None, "2026-11-22T12:00:00.000001Z", "2026-11-22T11:59:59.000001Z"),
            (Some(Duration::ZERO), "2026-11-22T12:00:00+00:00", "2026-11-22T12:00:00+00:00"),
            (minute, NOON, "2026-11-22T11:59:00Z"),
            (minute, "2026-01-01T00:00:30-05:00", "2025-12-31T23:59:30-05:00"),
            (Some(Duration::from_millis(1)), NOON, "2026-11-22T11:59:59.999Z"),
            (None, "not a time", "not a time"),
        ] {
            let mark = Mark { text: mark.into(), is_json: Some(false) };
            let found = to_send(&since(Order::Time { overlap }), Some(&mark), false).map(|mark| mark.text);
            assert_eq!(found.as_deref(), Some(sent), "{mark:?} {overlap:?}");
            let exact = to_send(&since(Order::Time { overlap }), Some(&mark), true).map(|mark| mark.text);
            let expected = if overlap.is_none() { mark.text.as_str() } else { sent };
            assert_eq!(exact.as_deref(), Some(expected), "the file's own overlap counts");
        }
    }

    /// What is sent is earlier than the mark by the overlap, whatever the form of the mark.
    #[test]
    fn any_form_of_a_time_is_kept() {
        let mut seed = 7_u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let mut n = |from: u64, to: u64| from + draw(to - from);
        for _ in 0..500 {
            let digits = n(0, 10);
            let part: String = (0..digits).map(|_| n(0, 10).to_string()).collect();
            let zone = match n(0, 3) {
                0 => "Z".to_owned(),
                1 => format!("+{:02}:{:02}", n(0, 14), n(0, 60)),
                _ => format!("-{:02}:00", n(1, 12)),
            };
            let (y, mo, d) = (n(1970, 2100), n(1, 13), n(1, 29));
            let (h, mi, s) = (n(0, 24), n(0, 60), n(0, 60));
            let dot = if part.is_empty() { "" } else { "." };
            let text = format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}{dot}{part}{zone}");
            let overlap = Duration::from_secs(n(1, 100_000));
            let sent = earlier(&text, overlap).unwrap_or_else(|| panic!("{text} is a time"));
            let back = i64::try_from(overlap.as_millis()).expect("small");
            assert_eq!(time(&sent), time(&text).map(|at| at.plus_ms(-back)), "{text} {sent}");
            assert_eq!(sent.ends_with('Z'), text.ends_with('Z'), "{text} {sent}");
            assert_eq!(sent.contains('.'), text.contains('.'), "{text} {sent}");
        }
    }

    fn windowed(days: u64, overlap: Option<Duration>) -> Since {
        let length = Duration::from_secs(days * 24 * 3600);
        Since { window: Some(crate::config::Window { length, until: None }), ..since(Order::Time { overlap }) }
    }

    #[test]
    fn the_end_of_a_window_is_never_beyond_now_and_has_the_marks_form() {
        for (sent, end, is_past) in [
            ("2026-10-01T00:00:00Z", "2026-10-31T00:00:00Z", true),
            ("2026-10-23T12:00:00.000Z", "2026-11-22T12:00:00.000Z", true),
            ("2026-10-23T12:00:00.001Z", "2026-11-22T12:00:00.000Z", false),
            ("2026-11-22T13:59:00+02:00", "2026-11-22T14:00:00+02:00", false),
            ("2026-01-01T00:00:00-05:00", "2026-01-31T00:00:00-05:00", true),
            // A mark that is ahead of this clock.
            ("2026-11-22T12:00:05Z", "2026-11-22T12:00:05Z", false),
        ] {
            let sent = Mark { text: sent.into(), is_json: Some(false) };
            let found = until(&windowed(30, None), Some(&sent), Some(&sent), at(NOON)).expect("an end");
            assert_eq!((found.mark.text.as_str(), found.is_past), (end, is_past), "{sent:?}");
            assert!(found.passes(5), "it reached back over nothing");
        }
        let (known, sent) = (mark("2026-10-01T00:00:01Z"), mark("2026-10-01T00:00:00Z"));
        let back = until(&windowed(30, None), Some(&known), Some(&sent), at(NOON)).expect("an end");
        assert_eq!((back.passes(0), back.passes(1)), (true, false));
        let own = until(&windowed(30, Some(Duration::from_secs(1))), Some(&known), Some(&sent), at(NOON));
        assert!(own.is_some_and(|until| until.passes(1)), "the file's own overlap always counts");
        assert_eq!(until(&windowed(30, None), None, None, at(NOON)), None);
        assert_eq!(until(&since(Order::Time { overlap: None }), Some(&known), Some(&sent), at(NOON)), None);
    }

    /// Whatever the window, the overlap and the records: windows meet, each is at most so long, every record lies in one that was
    /// asked for, and the end is now.
    #[test]
    fn windows_leave_no_time_out() {
        let mut seed = 3_u64;
        let mut draw = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (start, now) = (at("2026-01-01T00:00:00Z"), at(NOON));
        for n in 0..200 {
            let overlap =
                [None, Some(Duration::ZERO), Some(Duration::from_secs(3600))][usize::try_from(n % 3).expect("small")];
            let since = windowed(1 + draw(40), overlap);
            let span = u64::try_from(now.0 - start.0).expect("later") / 1000;
            let mut records: Vec<Timestamp> =
                (0..draw(6)).map(|_| start.plus(Duration::from_secs(draw(span)))).collect();
            records.sort_unstable();
            let mut seen = vec![false; records.len()];
            let (mut known, mut exactly, mut polls) = (None, false, 0);
            let first = Mark { text: "2026-01-01T00:00:00Z".into(), is_json: Some(false) };
            let since = Since { start: Some(first), ..since };
            loop {
                let sent = to_send(&since, known.as_ref(), exactly);
                let end = until(&since, known.as_ref(), sent.as_ref(), now).expect("an end");
                let (from, to) = (
                    time(&sent.as_ref().expect("a mark").text).expect("a time"),
                    time(&end.mark.text).expect("a time"),
                );
                let length = since.window.as_ref().expect("a window").length;
                assert!(from <= to && to <= from.plus(length) && to <= now, "{from} {to}");
                let found: Vec<usize> = (0..records.len()).filter(|i| (from..=to).contains(&records[*i])).collect();
                found.iter().for_each(|i| seen[*i] = true);
                let highest = found.last().map(|i| records[*i]).filter(|at| {
                    known.as_ref().and_then(|known: &Mark| time(&known.text)).is_none_or(|known| *at > known)
                });
                let passes = highest.is_none() && end.is_past && end.passes(u64::try_from(found.len()).expect("few"));
                exactly = !exactly && highest.is_none() && !passes;
                if let Some(highest) = highest {
                    known = Some(Mark { text: highest.to_string(), is_json: Some(false) });
                } else if passes {
                    known = Some(end.mark.clone());
                } else if !end.is_past {
                    break;
                }
                polls += 1;
                assert!(polls < 2000, "it stands still");
            }
            assert!(seen.iter().all(|seen| *seen), "{records:?}");
        }
    }

    #[test]
    fn a_message_of_a_stream_may_name_a_mark() {
        let resume = Expr::parse(".seq").expect("valid");
        let long = format!("{{\"seq\":\"{}\"}}", "x".repeat(TOKEN_BYTES_MAX + 1));
        let of = |text: &str, is_json| Ok(Some(Mark { text: text.into(), is_json: Some(is_json) }));
        for (message, expected) in [
            (r#"{"seq":12345678901234567890123}"#, of("12345678901234567890123", true)),
            (r#"{"seq":"007"}"#, of("007", false)),
            (r#"{"seq":[1,"a"]}"#, of("[1,\"a\"]", true)),
            (r#"{"seq":null}"#, Ok(None)),
            (r#"{"seq":false}"#, Ok(None)),
            (r#"{"data":[]}"#, Ok(None)),
        ] {
            assert_eq!(of_message(&resume, message.as_bytes()), expected, "{message}");
        }
        for message in ["[1]", long.as_str()] {
            assert!(of_message(&resume, message.as_bytes()).is_err_and(|e| e.starts_with("`resume`")), "{message}");
        }
    }

    /// One record from the year 9999 moved the mark to it, and nothing was ever new again.
    #[test]
    fn an_absurd_mark_moves_nothing_and_is_told() {
        let (number, time) = (Order::Number { overlap: 0 }, Order::Time { overlap: None });
        let ahead = |hours: u64| Some(MarkMax::Ahead(Duration::from_secs(hours * 3600)));
        let max = |n: &str| Some(MarkMax::Number(n.into()));
        for (order, max, m, moved) in [
            (number, None, "999999999999", true),
            (number, max("1000"), "1000", true),
            (number, max("1000"), "1001", false),
            (number, max("1000"), "123456789012345678901234567890", false),
            (number, max("-5"), "-4", false),
            (time, None, "\"2026-11-23T11:59:00Z\"", true),
            (time, None, "\"2026-11-23T12:01:00Z\"", false),
            (time, None, "\"9999-12-31T23:59:59Z\"", false),
            (time, ahead(1), "\"2026-11-22T13:00:01Z\"", false),
            (time, ahead(1), "\"2026-11-22T12:59:59Z\"", true),
            (time, Some(MarkMax::At(at("2030-01-01T00:00:00Z"))), "\"2029-12-31T00:00:00Z\"", true),
            (time, Some(MarkMax::At(at("2030-01-01T00:00:00Z"))), "\"2030-01-02T00:00:00Z\"", false),
            (Order::Text, None, "\"zzz\"", true),
        ] {
            let (since, mut highest) = (limited(order, max), None);
            let told = advance(&since, &mut highest, &record(m), clocks(None)).expect("a mark");
            assert_eq!((told.is_none(), highest.is_some()), (moved, moved), "{m}: {told:?}");
            assert!(told.is_none_or(|told| told.contains("`since.max`")), "{m}");
        }
        // One that was committed before `max` was written.
        let since = limited(number, max("1000"));
        assert_eq!(obeyed(&since, Some(mark("1001")), at(NOON)), None);
        assert_eq!(obeyed(&since, Some(mark("7")), at(NOON)), Some(mark("7")));
    }

    #[test]
    fn a_token_is_what_the_last_page_gives() {
        let expr = Expr::parse(".t").expect("jq");
        let given = |at: &At, t: &str, known: Option<Mark>| {
            let document = format!("{{\"t\":{t}}}");
            let found = token(&expr, Some(at), (document.as_bytes(), &Said::default()), known)?;
            Ok::<_, String>(found.map(|mark| mark.json().to_string()))
        };
        let (param, json) = (At::Param("t".into()), At::Json("t".into()));
        for text in ["\"007\"", "7", "\"9-g1AAAA\"", "18446744073709551616"] {
            for at in [&param, &json] {
                assert_eq!(given(at, text, Some(mark("1"))), Ok(Some(text.to_owned())));
            }
        }
        for text in ["[1,\"a\"]", "{\"a\":{\"b\":null}}"] {
            assert_eq!(given(&json, text, None), Ok(Some(text.to_owned())));
            assert!(given(&param, text, None).is_err_and(|error| error.contains("`json`")), "{text}");
        }
        for nothing in ["null", "false", "\"\""] {
            assert_eq!(given(&param, nothing, Some(mark("5"))), Ok(Some("5".to_owned())), "the known one stays");
            assert!(given(&param, nothing, None).is_err_and(|error| error.contains("nothing")), "{nothing}");
        }
        assert!(given(&json, "true", None).is_err());
        assert!(given(&json, &format!("\"{}\"", "x".repeat(TOKEN_BYTES_MAX + 1)), None).is_err());
    }

    /// "0012" was sent as 12, and -5 as "-5".
    #[test]
    fn a_mark_keeps_its_type() {
        for (is_json, text, json) in [
            (Some(true), "[1,{\"a\":null}]", "[1,{\"a\":null}]"),
            (Some(false), "0012", "\"0012\""),
            (Some(false), "12", "\"12\""),
            (Some(true), "-5", "-5"),
            (Some(true), "18446744073709551616", "18446744073709551616"),
            (None, "12", "12"),
            (None, "-5", "\"-5\""),
        ] {
            let mark = Mark { text: text.into(), is_json };
            assert_eq!(mark.json().to_string(), json);
        }
        let by_number = since(Order::Number { overlap: 0 });
        let mut highest = Some(Mark { text: "12".into(), is_json: None });
        for (m, is_json) in [("\"12\"", Some(false)), ("12", Some(false)), ("13", Some(true))] {
            advance(&by_number, &mut highest, &record(m), clocks(None)).expect("a mark");
            assert_eq!(highest.as_ref().and_then(|mark| mark.is_json), is_json, "{m}");
        }
    }
}
