//! What an answer of a receiver means: for its event, for the endpoint, and for the requests that follow.
//!
//! It does no I/O except that jq of the file may wait for its process. What the queue makes of it is the queue's matter.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::queue::{Answered, Room};
use crate::{
    config::Answers,
    expr,
    http::{self, hint, hint::Budget, retry_after},
    model::Timestamp,
    schedule::HINT_MAX,
};

/// A budget that has so many requests left holds nobody back: no endpoint has more in flight.
const LEFT_MAX: u32 = 1000;

/// What a status means, before the rest of the answer is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Taken,
    Down,
    Refused,
    Gone,
}

/// The file's lists come first, and then what statuses mean by themselves.
fn meaning(answers: &Answers, status: u16) -> Meaning {
    match status {
        _ if answers.taken.contains(&status) => Meaning::Taken,
        _ if answers.down.contains(&status) => Meaning::Down,
        _ if answers.refused.contains(&status) => Meaning::Refused,
        200..300 => Meaning::Taken,
        // 408 and 425 ask for another try, 520 to 527, 529 and 530 are those of CDNs whose origin does not answer.
        408 | 425 | 429 | 502 | 503 | 504 | 520..=527 | 529 | 530 => Meaning::Down,
        410 => Meaning::Gone,
        _ => Meaning::Refused,
    }
}

/// What an answer means (docs/reference.md, `[endpoint.NAME]`). What it says in an error may quote the answer.
pub(super) async fn judge(answers: &Answers, answer: &http::Answer, now: Timestamp) -> (Answered, Room) {
    let mut error = format!("the receiver answered {}", answer.status);
    if let Some(place) = points_to(answer) {
        error = format!("{error} and points to {place}: put that into `url`");
    }
    let input = answers.look().then(|| input(answer));
    let said = match said_wait(answers, input.as_ref()).await {
        Ok(said) => said,
        Err(why) => {
            error = format!("{error}; `retry.wait`: {why}");
            None
        }
    };
    let used_up = hint::used_up(&answer.headers, now);
    let retry_after = said.or_else(|| retry_after::wait(&answer.headers, now));
    let wait = retry_after.max(used_up);
    let mut room = Room { wait: said.max(used_up), left: left(answer, now) };
    let disable = answer.header("webhook-delivery").is_some_and(|v| v.trim().eq_ignore_ascii_case("disable"));
    let meaning = meaning(answers, answer.status);
    let complaint = match meaning {
        Meaning::Taken if !disable => complaint(answers, input.as_ref()).await,
        _ => None,
    };
    let result = match meaning {
        _ if disable => Answered::Gone {
            error: format!("{error} with `webhook-delivery: disable`"),
            taken: meaning == Meaning::Taken,
        },
        Meaning::Gone => Answered::Gone { error, taken: false },
        Meaning::Taken => match (complaint, retry_after) {
            // Of a 2xx `Retry-After` says when to look after a job that was begun (RFC 9110, section 15.3.3).
            (None, _) => Answered::Taken,
            (Some(why), None) => Answered::Refused { error: format!("{error}, and {why}"), retry_after },
            (Some(why), Some(_)) => Answered::Down { error: format!("{error}, and {why}"), retry_after },
        },
        Meaning::Down => Answered::Down { error, retry_after: wait },
        // GitHub's limits: 403 with `Retry-After`, or with a budget that is used up.
        Meaning::Refused if answer.status == 403 && wait.is_some() && !answers.refused.contains(&403) => {
            Answered::Down { error, retry_after: wait }
        }
        Meaning::Refused => Answered::Refused { error, retry_after },
    };
    if matches!(result, Answered::Down { .. } | Answered::Gone { .. }) {
        // The queue waits for it already.
        room = Room::default();
    }
    (result, room)
}

/// Where a redirect leads, which is not followed: without the query, which may be a secret.
fn points_to(answer: &http::Answer) -> Option<String> {
    let moved = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
    let mut place = answer.header("location").filter(|_| moved).and_then(|to| answer.url.join(to).ok())?;
    place.set_query(None);
    place.set_fragment(None);
    let _ = (place.set_username(""), place.set_password(None));
    Some(place.into())
}

/// How many requests the receiver still takes, where that is few enough to be kept.
fn left(answer: &http::Answer, now: Timestamp) -> Option<(u64, Duration)> {
    let budget = Budget::read(&answer.headers, now)?;
    let reset = budget.reset.filter(|_| budget.remaining < f64::from(LEFT_MAX))?;
    let requests = (1..=LEFT_MAX).take_while(|n| f64::from(*n) <= budget.remaining).last()?;
    Some((requests.into(), reset.min(HINT_MAX)))
}

/// What jq sees of an answer.
fn input(answer: &http::Answer) -> Json {
    let mut headers = serde_json::Map::new();
    for name in answer.headers.keys() {
        let all: Vec<_> = answer.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        headers.insert(name.to_string(), Json::String(all.join(", ")));
    }
    let body = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| Json::String(String::from_utf8_lossy(&answer.body).into_owned()));
    json!({ "status": answer.status, "headers": headers, "body": body })
}

/// `fail`: a text, or anything but `null` and `false`, is a refusal inside a 2xx.
async fn complaint(answers: &Answers, input: Option<&Json>) -> Option<String> {
    let (expr, input) = (answers.fail.as_ref()?, input?);
    let said = match expr.ask(input).await {
        Ok(said) => said,
        // What cannot be judged does not count as delivered: a dead letter is seen, and a loss is not.
        Err(error) => return Some(format!("`fail` fails on it: {error}")),
    };
    Some(match expr::meant(said)? {
        Json::Bool(true) => "`fail` says that it refused".into(),
        Json::String(text) => format!("`fail` says: {text}"),
        other => format!("`fail` says: {other}"),
    })
}

/// `retry.wait`: seconds; nothing, `null` and `false` say none.
async fn said_wait(answers: &Answers, input: Option<&Json>) -> Result<Option<Duration>, String> {
    let (Some(expr), Some(input)) = (&answers.wait, input) else { return Ok(None) };
    let said = expr.ask(input).await.map_err(|e| e.to_string())?;
    let Some(said) = expr::meant(said) else { return Ok(None) };
    let seconds = match said {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let seconds = seconds.filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    let seconds = seconds.ok_or("it gives no number of seconds; use `null` where the answer names no wait")?;
    Ok(Some(Duration::try_from_secs_f64(seconds).unwrap_or(HINT_MAX).min(HINT_MAX)))
}

#[cfg(test)]
mod tests {
    use crate::expr::Expr;

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    async fn told(
        answers: &Answers,
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &'static str,
    ) -> (Answered, Room) {
        let headers = headers.iter().map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value"))).collect();
        let url = "http://localhost/".parse().expect("a URL");
        judge(answers, &http::Answer { status, headers, body: body.into(), url }, Timestamp(0)).await
    }

    fn wait(answered: &Answered) -> Option<Duration> {
        match answered {
            Answered::Down { retry_after, .. } | Answered::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// A header meant something on a poll and nothing on a delivery.
    #[tokio::test]
    async fn what_an_answer_asks_for_counts_on_every_status() {
        let empty = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "30")];
        let some = [("ratelimit", "\"d\";r=4;t=2")];
        let later = [("retry-after", "7")];
        let both = [later[0], empty[0], empty[1]];
        type Case<'a> = (u16, &'a [(&'static str, &'static str)], &'a str, Option<u64>, Option<u64>);
        let cases: [Case<'_>; 13] = [
            (204, &[], "taken", None, None),
            (200, &empty, "taken", None, Some(30)),
            (200, &later, "taken", None, None),
            (429, &empty, "down", Some(30), None),
            (429, &both, "down", Some(30), None),
            (503, &later, "down", Some(7), None),
            (502, &[], "down", None, None),
            (403, &[], "refused", None, None),
            (403, &later, "down", Some(7), None),
            (403, &empty, "down", Some(30), None),
            (422, &empty, "refused", None, Some(30)),
            (500, &later, "refused", Some(7), None),
            (410, &empty, "gone", None, None),
        ];
        for (status, headers, class, asked, held) in cases {
            let (answered, room) = told(&Answers::default(), status, headers, "").await;
            assert_eq!((answered.class(), wait(&answered)), (class, asked.map(S)), "{status} {headers:?}");
            assert_eq!(room.wait, held.map(S), "{status} {headers:?}");
        }
        assert_eq!(told(&Answers::default(), 200, &some, "").await.1, Room { wait: None, left: Some((4, S(2))) });
    }

    #[tokio::test]
    async fn what_the_file_says_of_answers() {
        let expr = |text: &str| Some(Expr::parse(text).expect("jq"));
        let answers = Answers {
            fail: expr("select(.body.ok? == false) | .body.error // true"),
            wait: expr(".body.wait?"),
            down: vec![404],
            taken: vec![409],
            refused: vec![403, 410],
        };
        let cases = [
            (200, r#"{"ok":true}"#, "taken", None, None),
            (200, "ok", "taken", None, None),
            (200, r#"{"ok":true,"wait":3}"#, "taken", None, Some(3)),
            (200, r#"{"ok":false,"error":"no"}"#, "refused", None, None),
            (200, r#"{"ok":false,"wait":"3"}"#, "down", Some(3), None),
            (409, r#"{"ok":false}"#, "refused", None, None),
            (409, "", "taken", None, None),
            (404, "", "down", None, None),
            (410, "", "refused", None, None),
            (403, r#"{"wait":3}"#, "refused", Some(3), Some(3)),
            (429, r#"{"wait":false}"#, "down", None, None),
        ];
        for (status, body, class, asked, held) in cases {
            let (answered, room) = told(&answers, status, &[], body).await;
            assert_eq!((answered.class(), wait(&answered)), (class, asked.map(S)), "{status} {body}");
            assert_eq!(room.wait, held.map(S), "{status} {body}");
        }
        let (answered, _) = told(&answers, 429, &[], r#"{"wait":"soon"}"#).await;
        let Answered::Down { error, retry_after: None } = answered else { panic!("{answered:?}") };
        assert!(error.contains("`retry.wait`: it gives no number of seconds"), "{error}");
        let (answered, _) = told(&answers, 200, &[("webhook-delivery", "disable")], "").await;
        assert!(matches!(answered, Answered::Gone { taken: true, .. }));
    }
}
