//! A WebSocket's connection: what comes in is unpacked, taken apart and answered, and what is left for records is kept for the next
//! poll. What is said is decided in [`talk`](super::talk).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value as Json, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message as Frame},
};

use super::talk::{Heard, Message, Talk};
use crate::{
    clock::Clock,
    compute::compute,
    expr::Expr,
    http::packed,
    settings::{secret::Secret, units},
    source::stream::{Buffer, End, MESSAGES_MAX, len},
};

pub(super) type Stream = WebSocketStream<reqwest::Upgraded>;

/// A connection on which both sides speak.
pub(super) struct Line {
    pub stream: Stream,
    pub talk: Arc<Talk>,
    /// That was put on the handshake.
    pub token: Option<Secret>,
    /// The limit for each message that is sent.
    pub timeout: Duration,
    pub size_max: u64,
}

/// What a frame of the server brought.
#[derive(Default)]
struct Got {
    /// Messages that may hold records.
    kept: Vec<Bytes>,
    awaited: Option<Json>,
    trouble: Option<String>,
}

impl Line {
    /// Sends a message, each of its texts by itself.
    pub async fn say(&mut self, message: &Message, input: Json) -> Result<(), End> {
        let (message, token) = (message.clone(), self.token.clone());
        let texts = compute(move || message.texts(&input, token.as_ref())).await;
        let texts = texts.map_err(|e| End::fault(format!("what is sent cannot be made: it panicked: {e}")))?;
        let texts = texts.map_err(|e| End::fault(format!("what is sent cannot be made: {e}")))?;
        self.send(texts).await
    }

    async fn send(&mut self, texts: Vec<String>) -> Result<(), End> {
        for text in texts {
            match timeout(self.timeout, self.stream.send(Frame::text(text))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(self.broken(&error).await),
                Err(_) => return Err(End::new("it takes no more bytes")),
            }
        }
        Ok(())
    }

    /// The end of a connection that cannot be written to: the server's close may lie there unread, and says more.
    async fn broken(&mut self, error: &tungstenite::Error) -> End {
        /// It has come already, or never will.
        const READ_WITHIN: Duration = Duration::from_millis(100);
        let close = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(frame)) if !frame.is_close() => {}
                    other => return other,
                }
            }
        };
        match timeout(READ_WITHIN, close).await {
            Ok(Some(Ok(frame))) => frame_of(Some(Ok(frame))).err().unwrap_or_else(|| End::new(error.to_string())),
            _ => End::new(error.to_string()),
        }
    }

    /// Reads until a message comes for which an expression holds; what else comes is kept.
    pub async fn wait_for(&mut self, after: &Expr, kept: &mut Vec<Bytes>) -> Result<Json, End> {
        let until = Instant::now() + self.timeout;
        let (mut messages, mut bytes, mut trouble) = (0_usize, 0_u64, None);
        loop {
            let Ok(frame) = timeout_at(until, self.stream.next()).await else {
                let (within, trouble) = (units::show(self.timeout), trouble.unwrap_or_default());
                return Err(End::new(format!(
                    "no message came within {within} (`timeout`) for which `after` holds: {}{trouble}",
                    after.text()
                )));
            };
            let Some((frame, packed)) = frame_of(frame)? else { continue };
            let got = self.hear(frame, packed, Some(after)).await?;
            (messages, bytes) = (messages + got.kept.len(), bytes + got.kept.iter().map(len).sum::<u64>());
            if messages > MESSAGES_MAX || bytes > self.size_max {
                return Err(End::new("before the message that `after` waits for there came more than `size-max`"));
            }
            kept.extend(got.kept);
            trouble = got.trouble.map(|trouble| format!("; {trouble}")).or(trouble);
            if let Some(awaited) = got.awaited {
                return Ok(awaited);
            }
        }
    }

    /// Takes a frame apart, and answers what is to be answered.
    async fn hear(&mut self, frame: Bytes, is_packed: bool, awaited: Option<&Expr>) -> Result<Got, End> {
        let frame = match is_packed {
            true => packed::unpack(frame, self.size_max).await.map_err(|e| End::fault(e.to_string()))?,
            false => frame,
        };
        let messages = self.talk.messages(&frame);
        if awaited.is_none() && self.talk.is_silent() {
            return Ok(Got { kept: messages, ..Got::default() });
        }
        let mut got = Got::default();
        for message in messages {
            // Behind the one that is waited for nothing is waited for.
            let awaited = awaited.filter(|_| got.awaited.is_none()).cloned();
            let (talk, token, heard) = (self.talk.clone(), self.token.clone(), message.clone());
            let heard = compute(move || talk.hear(&heard, awaited.as_ref(), token.as_ref())).await;
            let heard = heard.map_err(|e| End::fault(format!("hearing a message panicked: {e}")))?;
            let Heard { taken, say, awaited, trouble } =
                heard.map_err(|e| End::fault(format!("`answer.send`: {e}")))?;
            self.send(say).await?;
            if !taken {
                got.kept.push(message);
            }
            got.awaited = got.awaited.or(awaited);
            got.trouble = trouble.map(|trouble| trouble.to_string()).or(got.trouble);
        }
        Ok(got)
    }
}

/// The bytes of a message, and whether they may be packed; `None` for frames of the protocol itself.
fn frame_of(frame: Option<Result<Frame, tungstenite::Error>>) -> Result<Option<(Bytes, bool)>, End> {
    match frame {
        None => Err(End::new("the server closed the connection")),
        Some(Err(tungstenite::Error::Capacity(error))) => Err(End::fault(format!("{error} (`size-max`)"))),
        Some(Err(error)) => Err(End::new(error.to_string())),
        Some(Ok(Frame::Close(frame))) => {
            let code = frame.as_ref().map(|frame| u16::from(frame.code));
            let why = frame.map(|f| format!(" with {}: {}", u16::from(f.code), f.reason)).unwrap_or_default();
            Err(End { code, ..End::new(format!("the server closed the connection{why}")) })
        }
        Some(Ok(Frame::Text(text))) => Ok(Some((Bytes::from(text), false))),
        Some(Ok(Frame::Binary(bytes))) => Ok(Some((bytes, true))),
        Some(Ok(_)) => Ok(None),
    }
}

/// Reads one connection until it ends.
pub(super) struct Reader {
    pub line: Line,
    /// What came while the subscription was sent.
    pub first: Vec<Bytes>,
    pub buffer: Buffer,
    /// Pings of the protocol (RFC 6455, section 5.5.2).
    pub ping: Duration,
    /// A message at an interval.
    pub beat: Option<(Duration, Message)>,
    /// What jq of that message sees, with its time.
    pub input: Json,
    pub clock: Clock,
}

impl Reader {
    /// Why it ended.
    pub async fn run(&mut self) -> End {
        match self.read().await {
            Ok(()) => End::new("nobody takes its messages"),
            Err(end) => end,
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        let mut ping = ticks(self.ping);
        let mut beat = self.beat.as_ref().map(|(every, _)| ticks(*every));
        let mut answered = true;
        let first = std::mem::take(&mut self.first);
        if !self.buffer.keep(first).await {
            return Ok(());
        }
        loop {
            let frame = tokio::select! {
                frame = self.line.stream.next() => frame,
                () = tick(&mut beat) => {
                    self.say_beat().await?;
                    continue;
                }
                _ = ping.tick() => {
                    if !std::mem::replace(&mut answered, false) {
                        return Err(End::new("it did not answer a ping"));
                    }
                    self.send_ping().await?;
                    continue;
                }
            };
            let frame = frame_of(frame)?;
            // Whatever it is, the connection is alive.
            answered = true;
            let Some((frame, is_packed)) = frame else { continue };
            let got = self.line.hear(frame, is_packed, None).await?;
            // Full: nothing is read before a poll has made room. A ping is not answered meanwhile, and none is missed.
            if !self.buffer.keep(got.kept).await {
                return Ok(());
            }
            answered = true;
        }
    }

    async fn say_beat(&mut self) -> Result<(), End> {
        let Some((_, message)) = self.beat.clone() else { return Ok(()) };
        let mut input = self.input.clone();
        if let Json::Object(input) = &mut input {
            input.insert("now".into(), json!(self.clock.now().to_string()));
        }
        self.line.say(&message, input).await
    }

    async fn send_ping(&mut self) -> Result<(), End> {
        match timeout(self.ping, self.line.stream.send(Frame::Ping(Bytes::new()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.line.broken(&error).await),
            Err(_) => Err(End::new("it takes no more bytes")),
        }
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

/// Never, where there is nothing to say.
async fn tick(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => {
            beat.tick().await;
        }
        None => std::future::pending().await,
    }
}
