//! Takes secrets out of texts that a server, a library or a file had a part in.
//!
//! What a text shows of a secret need not look like it: servers quote in JSON, in percent or in HTML escapes, in base64 and in hex,
//! in upper case, cut off or broken over lines. So the text is read in all of these ways, and each part of six characters that is
//! part of a secret is found in any of them.

use std::{borrow::Cow, collections::HashSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use url::Url;

use super::secret::{PART_BYTES, Secret};

/// A part that is a plain word of small letters may be just that, unless it is the whole secret or as long as this.
const WORD_BYTES: usize = 10;
/// Escapes in escapes, in base64: so often what was read is read again.
const READINGS: usize = 3;

/// Secrets as they are looked for.
#[derive(Debug, Default)]
pub struct Index {
    parts: HashSet<[u8; PART_BYTES]>,
    wholes: HashSet<Vec<u8>>,
}

/// A byte of a text as it is read in some way, and the bytes that stand for it.
#[derive(Clone, Copy)]
struct Read {
    byte: u8,
    from: usize,
    to: usize,
}

impl Index {
    pub fn of<'s>(secrets: impl IntoIterator<Item = &'s Secret>) -> Self {
        let mut index = Self::default();
        secrets.into_iter().for_each(|secret| index.add(secret));
        index
    }

    pub fn add(&mut self, secret: &Secret) {
        let text = secret.expose();
        // `wss:key` is a URL with a host as well, and a key like any other.
        let url = text.split_once("://").filter(|_| text.parse::<Url>().is_ok_and(|url| url.has_host()));
        let Some((_, parts)) = url else { return self.add_text(text) };
        // Scheme and host say where something was asked, and are in messages for that.
        let (user, rest) = match parts.find(['/', '?', '#']) {
            Some(end) => parts.split_at(end),
            None => (parts, ""),
        };
        let user = user.rsplit_once('@').map_or("", |(user, _)| user);
        for part in rest.split(['/', '?', '#', '&', '=']).chain(user.split(':')) {
            self.add_text(part);
            self.add_text(&decoded(part));
        }
        // As a proxy or a server is sent it, which may quote it in upper case.
        if !user.is_empty() {
            self.add_text(&STANDARD.encode(decoded(user).as_bytes()));
        }
    }

    fn add_text(&mut self, text: &str) {
        let bytes: Vec<u8> =
            text.bytes().filter(|b| !b.is_ascii_whitespace()).map(|b| b.to_ascii_lowercase()).collect();
        self.parts.extend(bytes.array_windows::<PART_BYTES>().copied());
        if bytes.len() >= PART_BYTES {
            self.wholes.insert(bytes);
        }
    }

    /// A text with `***` where something of a secret stands in it.
    pub fn mask(&self, text: &str) -> String {
        if self.parts.is_empty() || text.len() < PART_BYTES {
            return text.to_owned();
        }
        let mut hidden = vec![false; text.len()];
        let read = |(at, byte): (usize, u8)| Read { byte, from: at, to: at + 1 };
        self.look(&text.bytes().enumerate().map(read).collect::<Vec<Read>>(), READINGS, &mut hidden);
        show(text, &hidden)
    }

    /// Finds what is secret in a text and in all that it stands for, in so many steps.
    fn look(&self, read: &[Read], steps: usize, hidden: &mut [bool]) {
        self.find(read, hidden);
        let Some(steps) = steps.checked_sub(1).filter(|_| read.len() >= PART_BYTES) else { return };
        let unescaped = unescape(read);
        if unescaped.len() < read.len() {
            self.look(&unescaped, steps, hidden);
        }
        hex(read).iter().chain(&base64(read)).for_each(|decoded| self.look(decoded, steps, hidden));
    }

    /// Marks what is part of a secret.
    fn find(&self, read: &[Read], hidden: &mut [bool]) {
        let dense: Vec<Read> = read.iter().filter(|read| !read.byte.is_ascii_whitespace()).copied().collect();
        let lower: Vec<u8> = dense.iter().map(|read| read.byte.to_ascii_lowercase()).collect();
        let mut run: Option<(usize, usize)> = None;
        let windows = lower.array_windows::<PART_BYTES>();
        let found = windows.enumerate().filter(|(_, part)| self.parts.contains(*part)).map(|(at, _)| at);
        let mut end = |run: (usize, usize)| {
            let bytes = lower.get(run.0..run.1).unwrap_or_default();
            let is_word =
                dense.get(run.0..run.1).is_some_and(|run| run.iter().all(|read| read.byte.is_ascii_lowercase()));
            if is_word && bytes.len() < WORD_BYTES && !self.wholes.contains(bytes) {
                return;
            }
            // With the line breaks between.
            if let Some((first, last)) = dense.get(run.0).zip(dense.get(run.1 - 1)) {
                hidden.iter_mut().take(last.to).skip(first.from).for_each(|hidden| *hidden = true);
            }
        };
        for at in found {
            run = match run {
                Some((from, to)) if at <= to - PART_BYTES + 1 => Some((from, at + PART_BYTES)),
                other => {
                    other.into_iter().for_each(&mut end);
                    Some((at, at + PART_BYTES))
                }
            };
        }
        run.into_iter().for_each(end);
    }
}

fn decoded(part: &str) -> Cow<'_, str> {
    percent_decode_str(part).decode_utf8_lossy()
}

fn show(text: &str, hidden: &[bool]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut was_hidden = false;
    for (at, character) in text.char_indices() {
        let hides = hidden.iter().skip(at).take(character.len_utf8()).any(|hidden| *hidden);
        match (hides, was_hidden) {
            (true, false) => shown.push_str("***"),
            (true, true) => {}
            (false, _) => shown.push(character),
        }
        was_hidden = hides;
    }
    shown
}

/// With each escape of JSON, URLs, HTML and XML as what it stands for, whichever of them the text is in.
fn unescape(read: &[Read]) -> Vec<Read> {
    let mut out = Vec::with_capacity(read.len());
    let mut rest = read;
    while let Some((first, behind)) = rest.split_first() {
        let (bytes, length) = escape(rest).unwrap_or((vec![first.byte], 1));
        let to = rest.get(length - 1).map_or(first.to, |last| last.to);
        out.extend(bytes.into_iter().map(|byte| Read { byte, from: first.from, to }));
        rest = rest.get(length..).unwrap_or(behind);
    }
    out
}

/// The escape that begins here: what it stands for, and its length.
fn escape(read: &[Read]) -> Option<(Vec<u8>, usize)> {
    let byte = |at: usize| read.get(at).map(|read| read.byte);
    let number = |from: usize, digits: usize| -> Option<u32> {
        (from..from + digits).try_fold(0, |sum, at| Some(sum * 16 + char::from(byte(at)?).to_digit(16)?))
    };
    let character = |code: u32| char::from_u32(code).map(|c| c.to_string().into_bytes());
    match byte(0)? {
        b'%' => Some((vec![u8::try_from(number(1, 2)?).ok()?], 3)),
        b'\\' => match byte(1)? {
            b'u' => match number(2, 4)? {
                high @ 0xd800..=0xdbff if byte(6) == Some(b'\\') && byte(7) == Some(b'u') => {
                    let low = number(8, 4)?.checked_sub(0xdc00)?;
                    Some((character(0x10000 + (high - 0xd800) * 0x400 + low)?, 12))
                }
                code => Some((character(code)?, 6)),
            },
            b'x' => Some((vec![u8::try_from(number(2, 2)?).ok()?], 4)),
            b'n' | b'r' | b't' => Some((vec![b' '], 2)),
            other if other.is_ascii_punctuation() => Some((vec![other], 2)),
            _ => None,
        },
        b'&' => {
            let name: String = (1..12).map_while(|at| byte(at).filter(|b| *b != b';')).map(char::from).collect();
            (byte(name.len() + 1)? == b';').then_some(())?;
            let code = match name.strip_prefix('#') {
                Some(hex) if hex.starts_with(['x', 'X']) => u32::from_str_radix(hex.get(1..)?, 16).ok()?,
                Some(digits) => digits.parse().ok()?,
                None => u32::from(match name.as_str() {
                    "amp" => '&',
                    "lt" => '<',
                    "gt" => '>',
                    "quot" => '"',
                    "apos" => '\'',
                    "sol" => '/',
                    "plus" => '+',
                    "equals" => '=',
                    _ => return None,
                }),
            };
            Some((character(code)?, name.len() + 2))
        }
        _ => None,
    }
}

/// What runs of hex digits stand for, from the first digit and from the second.
fn hex(read: &[Read]) -> Vec<Vec<Read>> {
    let runs = read.chunk_by(|a, b| a.byte.is_ascii_hexdigit() == b.byte.is_ascii_hexdigit());
    let runs =
        runs.filter(|run| run.len() >= 2 * PART_BYTES && run.first().is_some_and(|r| r.byte.is_ascii_hexdigit()));
    let digit = |read: &Read| char::from(read.byte).to_digit(16).and_then(|d| u8::try_from(d).ok()).unwrap_or(0);
    let decode = |run: &[Read]| {
        run.as_chunks::<2>()
            .0
            .iter()
            .map(|[a, b]| Read { byte: digit(a) * 16 + digit(b), from: a.from, to: b.to })
            .collect()
    };
    runs.flat_map(|run| (0..2).filter_map(move |skip| run.get(skip..))).map(decode).collect()
}

/// What runs of base64 stand for, of either alphabet and from each of four characters on.
fn base64(read: &[Read]) -> Vec<Vec<Read>> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let runs = read.chunk_by(|a, b| value(a.byte).is_some() == value(b.byte).is_some());
    let runs =
        runs.filter(|run| run.len() * 3 >= PART_BYTES * 4 && run.first().is_some_and(|r| value(r.byte).is_some()));
    let decode = |run: &[Read]| {
        let mut out = Vec::with_capacity(run.len());
        for group in run.chunks(4) {
            let bits = group.iter().fold(0_u32, |bits, read| bits << 6 | u32::from(value(read.byte).unwrap_or(0)));
            let bits = bits << (6 * (4 - group.len()));
            for (at, byte) in bits.to_be_bytes().into_iter().skip(1).take(group.len().saturating_sub(1)).enumerate() {
                // Each byte is in two characters.
                if let (Some(first), Some(last)) = (group.get(at), group.get(at + 1)) {
                    out.push(Read { byte, from: first.from, to: last.to });
                }
            }
        }
        out
    };
    runs.flat_map(|run| (0..4).filter_map(move |skip| run.get(skip..))).map(decode).collect()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose};
    use proptest::prelude::*;

    use super::*;

    fn masked(secrets: &[&str], text: &str) -> String {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect();
        Index::of(&secrets).mask(text)
    }

    const SECRET: &str = "CNRbearer7/+a&b<\"x='ü9";

    /// Every form in which servers were seen to quote a secret.
    fn forms(secret: &str) -> Vec<String> {
        let percent = |lower: bool, all: bool| -> String {
            secret
                .bytes()
                .map(|b| match b {
                    b if b.is_ascii_alphanumeric() && !all => char::from(b).to_string(),
                    b if lower => format!("%{b:02x}"),
                    b => format!("%{b:02X}"),
                })
                .collect()
        };
        let json = serde_json::to_string(secret).expect("text");
        let unicode =
            |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\u{:04X}", u32::from(c)) };
        let html = |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("&#{};", u32::from(c)) };
        let named =
            |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\'', "&apos;");
        let hex: String = secret.bytes().map(|b| format!("{b:02x}")).collect();
        let mut all = vec![
            secret.to_owned(),
            secret.to_uppercase(),
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            percent(true, false),
            percent(false, true),
            secret.replace('/', "%2f"),
            json.clone(),
            json.replace('/', "\\/"),
            serde_json::to_string(&json).expect("text"),
            secret.chars().map(unicode).collect(),
            secret.chars().map(html).collect(),
            named(secret),
            named(&named(secret)),
            hex.to_uppercase(),
            hex,
        ];
        for before in ["", "u", "us", "user:"] {
            let pair = format!("{before}{secret}");
            all.push(general_purpose::STANDARD.encode(&pair));
            all.push(general_purpose::URL_SAFE_NO_PAD.encode(&pair));
            all.push(percent_of(&general_purpose::STANDARD.encode(&pair)));
        }
        all
    }

    fn percent_of(text: &str) -> String {
        url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        for form in forms(SECRET) {
            let shown = masked(&[SECRET], &format!("the key [{form}] is invalid"));
            assert!(shown.starts_with("the key [") && shown.ends_with("] is invalid"), "{form}: {shown}");
            // Quotes around it, and of base64 what is not of the secret, may stay.
            assert!(shown.len() <= "the key [\"\\\"***\\\"\"] is invalid".len() + 8, "{form}: {shown}");
        }
    }

    #[test]
    fn parts_cuts_and_lines_are_found_and_words_stay() {
        let cut = masked(&[SECRET], "key CNRbearer7/+a&b is invalid; the last were b<\"x='ü9");
        assert_eq!(cut, "key *** is invalid; the last were ***");
        assert_eq!(masked(&[SECRET], "key CNRbea\n  rer7/+a&b"), "key ***");
        // The longer one that holds a shorter one.
        let both = ["prod-key", "prod-key-9f8e7d6c5b4a"];
        assert_eq!(masked(&both, "key prod-key-9f8e7d6c5b4a is revoked, prod-key too"), "key *** is revoked, *** too");
        assert_eq!(masked(&["my-client-secret-77"], "the client sent a secret"), "the client sent a secret");
        assert_eq!(masked(&["secret"], "the secret is wrong"), "the *** is wrong");
        assert_eq!(masked(&["1234"], "1234 is too short to be found"), "1234 is too short to be found");
        assert_eq!(masked(&["wss:zyxwv9"], "key wss:zyxwv9"), "key ***");
        let proxy = "http://us:p%40ss-w0rd@proxy.internal:3128";
        assert_eq!(masked(&[proxy], "dXM6cEBzcy13MHJk, DXM6CEBZCY13MHJK or p@ss-w0rd"), "***, *** or ***");
        let url = "https://api.telegram.org/bot12345:AAbbCCdd-ee/getUpdates?key=zyxwv98";
        let told = "https://api.telegram.org answered 404: Cannot GET /bot12345:AAbbCCdd-ee/getUpdates zyxwv98";
        assert_eq!(masked(&[url], told), "https://api.telegram.org answered 404: Cannot GET /***/*** ***");
    }

    proptest! {
        /// However it is quoted, in whatever text: nothing of six characters is left.
        #[test]
        fn nothing_is_left(secret in "[A-Za-z0-9+/=&<>\"'%_-]{6,40}", which in 0usize..27, before in "[ -~]{0,12}", after in "[ -~]{0,12}") {
            prop_assume!(secret.bytes().any(|b| !b.is_ascii_lowercase()));
            let all = forms(&secret);
            let form = &all[which % all.len()];
            let shown = masked(&[&secret], &format!("{before} {form} {after}"));
            prop_assert!(!shown.contains(form.as_str()) || before.contains(form.as_str()) || after.contains(form.as_str()), "{shown}");
            prop_assert!(shown.contains("***"), "{form}: {shown}");
        }

        #[test]
        fn any_text_is_read(text in "\\PC{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            masked(&[SECRET], &text);
            masked(&[SECRET], &String::from_utf8_lossy(&bytes));
        }
    }
}
