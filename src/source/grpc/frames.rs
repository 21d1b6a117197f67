//! The messages of an answer as they come: each has five bytes in front of it, the flag whether it is packed and its
//! length. Each is bounded before it is read, and unpacked whatever was offered: some servers always pack.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream, stream::BoxStream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use reqwest::header::HeaderMap;
use tonic::Code;

use super::status::{has_failed, mend_details};
use crate::{
    http::{
        self,
        client::{RATIO_MAX, classify},
        packed,
    },
    source::{Error, ErrorKind},
};

/// What is asked for. Others take it too: it is what every implementation of gRPC has.
pub(super) const ACCEPTED: &str = "gzip";
const FLAG_PACKED: u8 = 1;
const HEADER_BYTES: usize = 5;

/// The body of an answer.
pub(super) type Messages = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Error>>>;

/// What is known of an answer before its first message.
pub(super) struct Framing {
    pub origin: String,
    /// What packed its messages, by `grpc-encoding`.
    pub encoding: Option<String>,
    /// Bytes of one message, also unpacked.
    pub message_max: usize,
}

struct Frames {
    body: reqwest::Body,
    framing: Framing,
    /// What came of messages that are not whole.
    buffer: BytesMut,
}

/// Whole messages that are not packed, and the trailers.
pub(super) fn messages(body: reqwest::Body, framing: Framing) -> Messages {
    let frames = Frames { body, framing, buffer: BytesMut::new() };
    let all = stream::try_unfold(frames, |mut frames| async move {
        let next = frames.next().await?;
        Ok(next.map(|frame| (frame, frames)))
    });
    StreamBody::new(all.boxed())
}

impl Frames {
    async fn next(&mut self) -> Result<Option<Frame<Bytes>>, Error> {
        loop {
            if let Some(message) = self.message().await? {
                return Ok(Some(Frame::data(message)));
            }
            let Some(frame) = self.body.frame().await else {
                self.check_end(None)?;
                return Ok(None);
            };
            let frame = frame.map_err(|e| ErrorKind::Http(classify(&e, &self.framing.origin)))?;
            match frame.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(other) => {
                    let Ok(mut trailers) = other.into_trailers() else { continue };
                    self.check_end(Some(&trailers))?;
                    mend_details(&mut trailers);
                    return Ok(Some(Frame::trailers(trailers)));
                }
            }
        }
    }

    /// A message that is cut off is an error also where the trailers say OK: the answer is not whole.
    fn check_end(&self, trailers: Option<&HeaderMap>) -> Result<(), Error> {
        if self.buffer.is_empty() || trailers.is_some_and(has_failed) {
            return Ok(());
        }
        let (origin, cause) = (self.framing.origin.clone(), "it ends within a message".to_owned());
        Err(ErrorKind::Http(http::Error::Body { origin, cause }).into())
    }

    /// The next message, if it is whole.
    async fn message(&mut self) -> Result<Option<Bytes>, Error> {
        let &[flag, a, b, c, d, ..] = self.buffer.as_ref() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let max = self.framing.message_max;
        if flag > FLAG_PACKED {
            return Err(self.failed(Code::Internal, format!("a message begins with {flag}, and may begin with 0 or 1")));
        }
        if length > max {
            return Err(self.too_large());
        }
        if self.buffer.len() - HEADER_BYTES < length {
            return Ok(None);
        }
        let whole = self.buffer.split_to(HEADER_BYTES + length).freeze();
        if flag != FLAG_PACKED {
            return Ok(Some(whole));
        }
        let message = self.unpacked(&whole.slice(HEADER_BYTES..)).await?;
        let mut framed = BytesMut::with_capacity(HEADER_BYTES + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).map_err(|_| self.too_large())?);
        framed.put_slice(&message);
        Ok(Some(framed.freeze()))
    }

    async fn unpacked(&self, message: &Bytes) -> Result<Bytes, Error> {
        let Framing { origin, encoding, message_max } = &self.framing;
        match encoding.as_deref() {
            Some("gzip" | "deflate") => {}
            Some(other) => {
                let why = format!("a message is packed by {other:?}, and bellpull reads gzip and deflate");
                return Err(self.failed(Code::Unimplemented, why));
            }
            None => {
                return Err(self.failed(Code::Internal, "a message is packed, and no `grpc-encoding` says how".into()));
            }
        }
        match packed::unpack_whole(message, u64::try_from(*message_max).unwrap_or(u64::MAX)).await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => {
                let (origin, cause) = (origin.clone(), "a packed message is damaged".to_owned());
                Err(ErrorKind::Http(http::Error::Body { origin, cause }).into())
            }
            Err(packed::Error::TooLarge { .. }) => Err(self.too_large()),
            Err(packed::Error::Bomb) => {
                Err(ErrorKind::Http(http::Error::Bomb { origin: origin.clone(), ratio: RATIO_MAX }).into())
            }
        }
    }

    fn too_large(&self) -> Error {
        let limit = self.framing.message_max;
        let why = format!("a message is larger than {limit} bytes, an eighth of `size-max`: set a larger `size-max`");
        self.failed(Code::OutOfRange, why)
    }

    fn failed(&self, code: Code, message: String) -> Error {
        ErrorKind::Grpc { origin: self.framing.origin.clone(), code, message }.into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let mut all = vec![flag];
        all.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
        all.extend(message);
        all
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(message).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn deflate(message: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(message).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    /// The messages of these bytes, which come in pieces of `piece`.
    async fn read(
        bytes: &[u8],
        piece: usize,
        encoding: Option<&str>,
        message_max: usize,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            bytes.chunks(piece).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let body = reqwest::Body::wrap_stream(stream::iter(pieces));
        let encoding = encoding.map(str::to_owned);
        let mut body = messages(body, Framing { origin: "https://a.example".into(), encoding, message_max });
        let mut all = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame?.into_data().expect("data");
            assert_eq!(data[0], 0, "nothing is packed any more");
            all.push(data[HEADER_BYTES..].to_vec());
        }
        Ok(all)
    }

    /// Every second message is packed, and they come in pieces of every size.
    #[tokio::test]
    async fn messages_come_whole_whatever_the_pieces_are() {
        let sent: Vec<Vec<u8>> = (0..6u8).map(|n| vec![n; usize::from(n) * 7]).collect();
        type Pack = fn(&[u8]) -> Vec<u8>;
        let (gzip, deflate): (Pack, Pack) = (gzip, deflate);
        for (encoding, pack) in [("gzip", gzip), ("deflate", deflate)] {
            let bytes: Vec<u8> = sent
                .iter()
                .enumerate()
                .flat_map(|(n, m)| if n % 2 == 0 { framed(0, m) } else { framed(1, &pack(m)) })
                .collect();
            for piece in [1, 2, 3, 4, 5, 6, 7, 50, 1000] {
                assert_eq!(read(&bytes, piece, Some(encoding), 1000).await.as_ref(), Ok(&sent), "{encoding} {piece}");
            }
            // Each place at which it may be cut, except those between two messages.
            let whole: Vec<usize> = (1..=sent.len())
                .map(|n| {
                    let of =
                        |(n, m): (usize, &Vec<u8>)| HEADER_BYTES + if n % 2 == 0 { m.len() } else { pack(m).len() };
                    sent.iter().enumerate().take(n).map(of).sum()
                })
                .collect();
            for cut in (1..bytes.len()).filter(|cut| !whole.contains(cut)) {
                let error = read(&bytes[..cut], 16, Some(encoding), 1000).await.expect_err("it is cut");
                assert!(error.to_string().contains("it ends within a message"), "{cut}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_refused_says_why() {
        let zeros = vec![0; 4 << 20];
        let large = "larger than 1000 bytes, an eighth of `size-max`";
        for (bytes, encoding, max, told) in [
            (framed(0, &[0; 1001]), None, 1000, large),
            // Its length alone: nothing of it is waited for.
            (framed(0, &[0; 1001])[..5].to_vec(), None, 1000, large),
            (framed(1, &gzip(&[0; 1001])), Some("gzip"), 1000, large),
            (framed(1, &gzip(&zeros)), Some("gzip"), 8 << 20, "a compression bomb"),
            (framed(1, b"no gzip"), Some("gzip"), 1000, "a packed message is damaged"),
            (framed(1, &gzip(b"abc")[..12]), Some("gzip"), 1000, "a packed message is damaged"),
            (framed(1, b"abc"), Some("snappy"), 1000, "packed by \"snappy\", and bellpull reads gzip and deflate"),
            (framed(1, b"abc"), None, 1000, "no `grpc-encoding` says how"),
            (framed(60, b"abc"), None, 1000, "a message begins with 60"),
        ] {
            let error = read(&bytes, 1 << 16, encoding, max).await.expect_err("refused").to_string();
            assert!(error.contains(told) && error.contains("https://a.example"), "{told}: {error}");
        }
    }
}
