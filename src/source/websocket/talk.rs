//! What is said over a WebSocket beside records: the messages of a subscription, answers to the server's messages, how a frame
//! becomes messages. No I/O, and no clock.

use bytes::Bytes;
use serde_json::Value as Json;

use crate::{
    expr::{self, Expr},
    settings::{
        Item, Table,
        fingerprint::Fingerprint,
        key::{Form, Shape, keys},
        secret::Secret,
        template::{self, Template},
        value::Value,
    },
    source::stream::Reading,
};

/// A message that is said.
const MESSAGE: Form<Message> = Form::new(Shape::Any, Message::read);

keys! {
    /// A message that waits for one of the server's.
    mod awaited;
    /// The message: a value is sent as text, a list or another table as JSON. In that JSON `{ env = "..." }`, `{ file = "..." }` and
    /// `{ credential = "..." }` are secrets, `{ jq = "..." }` is what jq makes, and `{ token = true }` is the token of `auth.oauth2`,
    /// `auth.jwt` or `auth.session`.
    need MESSAGE: Message = "message", super::MESSAGE, "message = { type = \"subscribe\" }";
    /// jq over each of the server's messages: it is sent once this holds for one. jq in `message` sees that one as `.message`. If none
    /// comes within `timeout`, the connection has failed.
    need AFTER: Expr = "after", EXPR, "after = '.type == \"connection_ack\"'";
}

keys! {
    /// What is answered to a message.
    mod reply;
    /// jq over the server's message; a message that is not what `decode` reads is a string. jq that fails does not hold.
    need WHEN: Expr = "when", EXPR, "when = '.type == \"ping\"'";
    /// What is sent then, as in `send`; jq in it sees the server's message. Without it the message is only left out.
    maybe SEND: Message = "send", super::MESSAGE, "nothing is sent";
}

/// What is sent: a value as text, all else as JSON.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    Text(Value),
    Json(Template),
}

/// An entry of `send`.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub message: Message,
    /// Of the server's message that it waits for.
    pub after: Option<Expr>,
}

/// An entry of `answer`.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    when: Expr,
    send: Option<Message>,
}

/// How the server's messages are read and answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Talk {
    pub replies: Vec<Reply>,
    pub reading: Reading,
    /// Stands between the messages of a frame.
    pub split: Option<String>,
}

/// What the conversation makes of a message.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    /// It was a part of the conversation, and holds no records.
    pub taken: bool,
    /// What is answered.
    pub say: Vec<String>,
    /// The message that was waited for.
    pub awaited: Option<Json>,
    /// Why jq of `after` failed on it.
    pub trouble: Option<expr::Error>,
}

impl Message {
    pub fn read(item: &Item<'_>) -> Option<Self> {
        match item.is_list() || item.is_table() && !item.stands_for_a_value() {
            true => item.template(template::in_a_message).map(Self::Json),
            false => item.value().map(Self::Text),
        }
    }

    /// The texts that are sent. May wait for another process: not for an async thread.
    pub fn texts(&self, input: &Json, token: Option<&Secret>) -> Result<Vec<String>, template::Error> {
        Ok(match self {
            Self::Text(value) => value.resolve_here(input)?,
            Self::Json(template) => match (template, template.fill(input, token)?) {
                // The whole message is the token.
                (Template::Token, Some(Json::String(token))) => vec![token],
                (_, filled) => filled.iter().map(Json::to_string).collect(),
            },
        })
    }

    /// The values that may be secrets.
    pub fn values(&self) -> Vec<&Value> {
        match self {
            Self::Text(value) => vec![value],
            Self::Json(template) => template.values(),
        }
    }

    pub fn needs_token(&self) -> bool {
        matches!(self, Self::Json(template) if template.needs_token())
    }
}

impl Said {
    /// A table of `message` and `after`, and nothing else, waits; any other value is the message.
    pub fn read(item: &Item<'_>) -> Option<Self> {
        if is_awaited(item) {
            let mut table = item.table()?;
            let (message, after) = (table.need(&awaited::MESSAGE), table.need(&awaited::AFTER));
            table.finish();
            return Some(Self { message: message?, after: Some(after?) });
        }
        let is_value = !item.is_table() || item.is_secret() || item.stands_for_a_value();
        let message = if is_value {
            item.value().map(Message::Text)
        } else {
            item.template(template::in_a_message).map(Message::Json)
        };
        Some(Self { message: message?, after: None })
    }

    /// Writes what the snapshot depends on.
    pub fn define(&self, text: &mut Fingerprint) {
        match &self.message {
            Message::Text(value) => text.put("send", value),
            Message::Json(template) => text.put("send.json", template),
        }
        text.put_some("send.after", self.after.as_ref());
    }

    /// As 0.1.0 wrote it.
    pub fn definition_0_1(&self) -> String {
        match &self.message {
            Message::Text(value) => format!("Text({value:?})"),
            Message::Json(template) => format!("Json({:?})", Json::from(template)),
        }
    }
}

fn is_awaited(item: &Item<'_>) -> bool {
    let names: Option<Vec<String>> = item
        .is_table()
        .then(|| item.table().map(|mut table| table.take_all().into_iter().map(|(name, ..)| name.to_owned()).collect()))
        .flatten();
    names.is_some_and(|mut names| {
        names.sort();
        names == [awaited::AFTER.name, awaited::MESSAGE.name]
    })
}

impl Reply {
    pub fn read(item: &Item<'_>) -> Option<Self> {
        let mut table: Table<'_> = item.table()?;
        let (when, send) = (table.need(&reply::WHEN), table.get(&reply::SEND));
        table.finish();
        Some(Self { when: when?, send })
    }

    /// Writes what the snapshot depends on: which messages hold no records.
    pub fn define(&self, text: &mut Fingerprint) {
        text.put("answer.when", &self.when);
    }

    pub fn message(&self) -> Option<&Message> {
        self.send.as_ref()
    }
}

impl Talk {
    /// Whether nothing is answered: nobody has to look at a message.
    pub fn is_silent(&self) -> bool {
        self.replies.is_empty()
    }

    /// The messages of a frame; those without a byte that counts are none.
    pub fn messages(&self, frame: &Bytes) -> Vec<Bytes> {
        let is_message = |part: &[u8]| !part.trim_ascii().is_empty();
        let whole: &[u8] = frame;
        let parts = self.split.as_ref().map_or_else(|| vec![whole], |split| parts(whole, split.as_bytes()));
        parts.into_iter().filter(|part| is_message(part)).map(|part| frame.slice_ref(part)).collect()
    }

    /// Hears a message of the server: whether it is an answered one, and whether it is the one that is waited for. May wait for
    /// another process: not for an async thread.
    pub fn hear(
        &self,
        message: &Bytes,
        awaited: Option<&Expr>,
        token: Option<&Secret>,
    ) -> Result<Heard, template::Error> {
        let seen = self.reading.seen(message);
        let mut heard = Heard::default();
        // What one kind of message has another lacks: jq that fails on it does not hold.
        if let Some(reply) = self.replies.iter().find(|reply| reply.when.holds(&seen).unwrap_or(false)) {
            heard.taken = true;
            if let Some(send) = &reply.send {
                heard.say = send.texts(&seen, token)?;
            }
        }
        match awaited.map(|awaited| awaited.holds(&seen)) {
            Some(Ok(true)) => (heard.taken, heard.awaited) = (true, Some(seen)),
            Some(Err(error)) => heard.trouble = Some(error),
            Some(Ok(false)) | None => {}
        }
        Ok(heard)
    }
}

/// What stands between separators. An empty separator separates nothing.
fn parts<'f>(frame: &'f [u8], separator: &[u8]) -> Vec<&'f [u8]> {
    let (mut parts, mut rest) = (Vec::new(), frame);
    while let Some(at) = rest.windows(separator.len().max(1)).position(|window| window == separator) {
        let (part, behind) = rest.split_at(at);
        parts.push(part);
        rest = behind.get(separator.len()..).unwrap_or_default();
    }
    parts.push(rest);
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn jq(text: &str) -> Expr {
        Expr::parse(text).expect("valid")
    }

    fn reply(when: &str, send: Option<&str>) -> Reply {
        Reply { when: jq(when), send: send.map(|text| Message::Text(Value::Jq(jq(text)))) }
    }

    fn talk(replies: Vec<Reply>) -> Talk {
        Talk { replies, reading: Reading { decode: None, depth_max: 64 }, split: None }
    }

    fn hear(talk: &Talk, message: &str, awaited: Option<&str>) -> (bool, Vec<String>, Option<Json>) {
        let awaited = awaited.map(jq);
        let heard = talk.hear(&Bytes::copy_from_slice(message.as_bytes()), awaited.as_ref(), None).expect("heard");
        (heard.taken, heard.say, heard.awaited)
    }

    /// HTX, Bybit, OKX, Socket.IO, graphql-transport-ws: a heartbeat is answered in the server's own words, and is no record.
    #[test]
    fn what_is_a_part_of_the_conversation_is_answered_and_holds_no_records() {
        let talk = talk(vec![
            reply(".ping", Some("{pong: .ping}")),
            reply(". == 2", Some("3")),
            reply(". == \"Ping!\"", Some("\"Pong!\"")),
            reply(".type == \"ka\"", None),
            reply(".silent", Some("empty")),
        ]);
        for (message, taken, say) in [
            (r#"{"ping":1492420473027}"#, true, vec![r#"{"pong":1492420473027}"#]),
            ("2", true, vec!["3"]),
            ("Ping!", true, vec!["Pong!"]),
            (r#"{"type":"ka"}"#, true, vec![]),
            (r#"{"silent":true}"#, true, vec![]),
            // The first entry counts.
            (r#"{"ping":7,"type":"ka"}"#, true, vec![r#"{"pong":7}"#]),
            (r#"{"ping":null}"#, false, vec![]),
            (r#"{"data":[{"id":1}]}"#, false, vec![]),
            // jq fails on it, or it is no document: neither is a heartbeat.
            ("[1]", false, vec![]),
            ("3", false, vec![]),
            ("{\"ping\":", false, vec![]),
            ("\u{1f}\u{8b}", false, vec![]),
        ] {
            let say: Vec<String> = say.into_iter().map(str::to_owned).collect();
            assert_eq!(hear(&talk, message, None), (taken, say, None), "{message}");
        }
    }

    #[test]
    fn a_message_that_is_waited_for_is_heard_beside_those_that_are_answered() {
        let talk = talk(vec![reply(".type == \"ping\"", Some("{type: \"pong\"}"))]);
        let ack = r#".type == "connection_ack""#;
        let found = json!({ "type": "connection_ack", "payload": { "n": 1.10 } });
        assert_eq!(hear(&talk, &found.to_string(), Some(ack)), (true, vec![], Some(found)));
        assert_eq!(hear(&talk, r#"{"type":"ping"}"#, Some(ack)), (true, vec![r#"{"type":"pong"}"#.into()], None));
        assert_eq!(hear(&talk, r#"{"type":"next"}"#, Some(ack)), (false, vec![], None));
        let odd = talk.hear(&Bytes::from_static(b"7"), Some(&jq(ack)), None).expect("heard");
        assert!(!odd.taken && odd.trouble.is_some_and(|e| e.to_string().contains("connection_ack")));
        // SockJS opens with a letter.
        assert_eq!(hear(&talk, "o", Some(r#". == "o""#)), (true, vec![], Some(json!("o"))));
    }

    #[test]
    fn a_whole_message_may_be_the_token() {
        let token = Secret::new("t0ken-of-the-login".into());
        let texts = |message: Message| message.texts(&json!({}), Some(&token)).expect("texts");
        assert_eq!(texts(Message::Json(Template::Token)), ["t0ken-of-the-login"]);
        let pair = Template::Table(vec![("auth".into(), Template::Token)]);
        assert_eq!(texts(Message::Json(pair)), [r#"{"auth":"t0ken-of-the-login"}"#]);
        assert_eq!(texts(Message::Json(Template::Fixed(json!(["1", {}])))), [r#"["1",{}]"#]);
        assert_eq!(texts(Message::Text(Value::Literal("CONNECT\n\n\0".into()))), ["CONNECT\n\n\0"]);
    }

    #[test]
    fn a_frame_is_taken_apart() {
        for (split, frame, messages) in [
            (None, "{\"a\":1}\n{\"a\":2}", vec!["{\"a\":1}\n{\"a\":2}"]),
            (None, " \n", vec![]),
            (Some("\n"), "{\"a\":1}\n{\"a\":2}\r\n\n", vec!["{\"a\":1}", "{\"a\":2}\r"]),
            (Some("\u{1e}"), "{}\u{1e}{\"type\":6}\u{1e}", vec!["{}", "{\"type\":6}"]),
            (Some("\u{1e}"), "{}", vec!["{}"]),
            (Some("--"), "a---b----c", vec!["a", "-b", "c"]),
            (Some("\n"), "", vec![]),
        ] {
            let talk = Talk { split: split.map(str::to_owned), ..talk(Vec::new()) };
            let found = talk.messages(&Bytes::copy_from_slice(frame.as_bytes()));
            assert_eq!(found, messages, "{split:?} {frame:?}");
        }
    }

    /// What a server may send, in any order.
    fn message() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<u32>().prop_map(|n| json!({ "ping": n }).to_string()),
            any::<u8>().prop_map(|n| json!({ "data": [{ "id": n }] }).to_string()),
            Just("2".to_owned()),
            "[a-z\\[\\{\"]{1,8}",
        ]
    }

    proptest! {
        /// Whatever the frames are: each message comes once, in its order, and is either answered or kept.
        #[test]
        fn each_message_is_answered_or_kept(
            all in prop::collection::vec(message(), 0..20),
            cuts in prop::collection::vec(any::<bool>(), 20),
        ) {
            let talk = Talk { split: Some("\n".into()), ..talk(vec![reply(".ping", None), reply(". == 2", None)]) };
            // Some messages share a frame.
            let mut frames = vec![String::new()];
            for (message, cut) in all.iter().zip(cuts) {
                let last = frames.last_mut().expect("one");
                last.push_str(message);
                last.push('\n');
                if cut {
                    frames.push(String::new());
                }
            }
            let (mut heard, mut kept) = (Vec::new(), Vec::new());
            for frame in frames {
                for message in talk.messages(&Bytes::from(frame)) {
                    let taken = talk.hear(&message, None, None).expect("heard").taken;
                    let text = String::from_utf8(message.to_vec()).expect("UTF-8");
                    kept.extend((!taken).then(|| text.clone()));
                    heard.push(text);
                }
            }
            prop_assert_eq!(&heard, &all);
            let is_answered = |text: &&String| text.starts_with("{\"ping\":") || *text == "2";
            let expected: Vec<String> = all.iter().filter(|text| !is_answered(text)).cloned().collect();
            prop_assert_eq!(kept, expected);
        }

        /// Parts and separators make the frame again.
        #[test]
        fn nothing_of_a_frame_is_lost(frame in "[ab-]{0,30}", separator in "[-b]{1,3}") {
            let parts = parts(frame.as_bytes(), separator.as_bytes());
            prop_assert_eq!(parts.join(separator.as_bytes()), frame.as_bytes());
            let within = |part: &[u8]| part.windows(separator.len()).any(|w| w == separator.as_bytes());
            prop_assert!(!parts.into_iter().any(within));
        }
    }
}
