//! Requests in a file, one JSON object a line: what `listen --record` writes and `listen --replay` reads.
//!
//! It keeps what came, whatever that is, and judges nothing.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::{BODY_BYTES_MAX, Received};

/// The longest line that is read: each byte of the largest body may stand as `\u0000`, and headers come before it.
const LINE_BYTES_MAX: usize = 7 * BODY_BYTES_MAX;

/// One request, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// When it was received, RFC 3339.
    pub at: String,
    pub method: String,
    /// With the query.
    pub path: String,
    /// Lower-case names in the order in which each first came; the values of one name in their order.
    pub headers: Vec<(String, Text)>,
    pub body: Text,
    pub verdict: Verdict,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What was answered.
    pub status: u16,
}

/// What the signature was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There was no secret to verify with.
    Unchecked,
    Verified,
    Refused,
}

/// Bytes: as text where they are UTF-8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Text {
    Plain(String),
    Base64 { base64: String },
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Base64 { base64: STANDARD.encode(bytes) },
        }
    }

    /// The bytes again.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Plain(text) => Ok(text.as_bytes().to_vec()),
            Self::Base64 { base64 } => STANDARD.decode(base64).map_err(|e| format!("base64: {e}")),
        }
    }
}

impl From<&Received> for Recorded {
    fn from(received: &Received) -> Self {
        let (verdict, why) = match &received.verified {
            None => (Verdict::Unchecked, None),
            Some(Ok(())) => (Verdict::Verified, None),
            Some(Err(error)) => (Verdict::Refused, Some(error.clone())),
        };
        let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            (name.as_str().to_owned(), Text::of(value.as_bytes()))
        };
        Self {
            at: received.at.to_string(),
            method: received.method.to_string(),
            path: received.path.clone(),
            headers: received.headers.iter().map(header).collect(),
            body: Text::of(&received.body),
            verdict,
            why,
            status: received.answered.as_u16(),
        }
    }
}

/// Appends to a file.
#[derive(Debug)]
pub struct Recorder(Arc<Mutex<Tail>>);

#[derive(Debug)]
struct Tail {
    file: File,
    /// The last line was not written to its end: the next one must not become a part of it.
    torn: bool,
}

impl Recorder {
    /// Opens a file, or makes one that only its owner reads: bodies and signatures are nobody else's.
    pub fn open(path: &Path) -> Result<Self, String> {
        const OWNER_ONLY: u32 = 0o600;
        let open = || -> std::io::Result<Tail> {
            let mut file = OpenOptions::new().read(true).append(true).create(true).mode(OWNER_ONLY).open(path)?;
            let mut torn = false;
            if file.metadata()?.len() > 0 {
                let mut last = [0];
                file.seek(SeekFrom::End(-1))?;
                file.read_exact(&mut last)?;
                torn = last != *b"\n";
            }
            Ok(Tail { file, torn })
        };
        let tail = open().map_err(|e| format!("failed to open {}: {e}", path.display()))?;
        Ok(Self(Arc::new(Mutex::new(tail))))
    }

    /// Writes a request; the line is with the operating system when this returns.
    pub(super) async fn append(&self, received: &Received) -> Result<(), String> {
        let mut line = serde_json::to_vec(&Recorded::from(received)).expect("strings and numbers serialize");
        line.push(b'\n');
        let tail = self.0.clone();
        // It runs to its end even when the sender goes away meanwhile: half a line would take the next one with it.
        let written = tokio::task::spawn_blocking(move || tail.lock().expect("no thread panics with it").write(line));
        written.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

impl Tail {
    fn write(&mut self, mut line: Vec<u8>) -> std::io::Result<()> {
        if self.torn {
            line.insert(0, b'\n');
        }
        self.torn = true;
        self.file.write_all(&line)?;
        self.torn = false;
        Ok(())
    }
}

/// The requests of a file, one after the other.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<tokio::fs::File>,
    /// Of the line that was read last, from 1.
    pub line: u64,
}

impl Reader {
    pub async fn open(path: &Path) -> Result<Self, String> {
        let file = tokio::fs::File::open(path).await.map_err(|e| format!("failed to open {}: {e}", path.display()))?;
        Ok(Self { file: BufReader::new(file), line: 0 })
    }

    /// The next one, or why its line is none; `None` at the end. Empty lines are passed over.
    pub async fn next(&mut self) -> std::io::Result<Option<Result<Recorded, String>>> {
        loop {
            let mut bytes = Vec::new();
            let max = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
            let read = (&mut self.file).take(max).read_until(b'\n', &mut bytes).await?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if read == LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
                return Err(std::io::Error::other(format!(
                    "line {} is longer than {LINE_BYTES_MAX} bytes: no such line is ever recorded",
                    self.line
                )));
            }
            let text = bytes.trim_ascii();
            if !text.is_empty() {
                return Ok(Some(serde_json::from_slice(text).map_err(|e| format!("no recorded request: {e}"))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [&b""[..], b"{}", "\u{0}\u{7f}\u{2028}".as_bytes(), b"\xff\xfe", b"a\xc3"] {
            let text = serde_json::to_string(&Text::of(bytes)).expect("serializes");
            let back: Text = serde_json::from_str(&text).expect("reads");
            assert_eq!(back.bytes().as_deref(), Ok(bytes));
        }
        assert!(Text::Base64 { base64: "?".into() }.bytes().is_err());
    }
}
