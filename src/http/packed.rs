//! Bytes that are packed beside HTTP's own encodings: what a binary message of a WebSocket or a message of gRPC holds.

use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::client::{CHUNK_BYTES, GZIP_MAGIC, RATIO_FROM_BYTES, RATIO_MAX};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("unpacked, a message is larger than {limit} bytes (`size-max`)")]
    TooLarge { limit: u64 },
    #[error("unpacked, a message is more than {RATIO_MAX} times as large")]
    Bomb,
}

/// What gzip (RFC 1952) or zlib (RFC 1950) packed; other bytes, and damaged ones, as they are: who reads them says what is wrong.
pub async fn unpack(bytes: Bytes, max: u64) -> Result<Bytes, Error> {
    Ok(unpack_whole(&bytes, max).await?.unwrap_or(bytes))
}

/// The same of bytes that are said to be packed: `None` for others, and for damaged ones.
pub async fn unpack_whole(bytes: &[u8], max: u64) -> Result<Option<Bytes>, Error> {
    if bytes.starts_with(&GZIP_MAGIC) {
        let mut decoder = GzipDecoder::new(bytes);
        decoder.multiple_members(true);
        read(decoder, bytes.len(), max).await
    } else if is_zlib(bytes) {
        read(ZlibDecoder::new(bytes), bytes.len(), max).await
    } else {
        Ok(None)
    }
}

/// RFC 1950, section 2.2: deflate with a window of 32 KiB, and a check that 31 divides.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [0x78, flags, ..] if (0x7800 + u16::from(*flags)).is_multiple_of(31))
}

/// `None` for what is damaged.
async fn read(mut reader: impl AsyncRead + Unpin, packed: usize, max: u64) -> Result<Option<Bytes>, Error> {
    let packed = u64::try_from(packed).unwrap_or(u64::MAX).max(1);
    let mut out = BytesMut::new();
    loop {
        out.reserve(CHUNK_BYTES);
        let Ok(read) = reader.read_buf(&mut out).await else { return Ok(None) };
        let length = u64::try_from(out.len()).unwrap_or(u64::MAX);
        match read {
            0 => return Ok(Some(out.freeze())),
            _ if length > max => return Err(Error::TooLarge { limit: max }),
            _ if length > RATIO_FROM_BYTES && length / packed > RATIO_MAX => return Err(Error::Bomb),
            _ => {}
        }
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

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn zlib(bytes: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(bytes).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    async fn unpacked(bytes: &[u8], max: u64) -> Result<Bytes, Error> {
        unpack(Bytes::copy_from_slice(bytes), max).await
    }

    #[tokio::test]
    async fn what_is_packed_is_unpacked_and_what_is_not_stays() {
        let text = br#"{"data":[{"id":1}]}"#;
        for packed in [gzip(text), zlib(text, 0), zlib(text, 6), zlib(text, 9), [gzip(text)].concat(), text.to_vec()] {
            assert_eq!(unpacked(&packed, 1000).await.as_deref(), Ok(&text[..]), "{packed:x?}");
        }
        let twice = [gzip(b"[1,"), gzip(b"2]")].concat();
        assert_eq!(unpacked(&twice, 1000).await.as_deref(), Ok(&b"[1,2]"[..]));
        // Damaged, cut off, or only alike.
        let cut = gzip(text)[..20].to_vec();
        for odd in [cut, b"\x1f\x8b".to_vec(), b"x\x9c and no more".to_vec(), b"x".to_vec(), Vec::new()] {
            assert_eq!(unpacked(&odd, 1000).await.as_deref(), Ok(&odd[..]), "{odd:x?}");
        }
    }

    #[tokio::test]
    async fn a_message_grows_no_further_than_an_answer() {
        let zeros = vec![b'0'; 4 << 20];
        assert_eq!(unpacked(&gzip(&zeros), 1 << 20).await, Err(Error::TooLarge { limit: 1 << 20 }));
        assert_eq!(unpacked(&zlib(&zeros, 9), 1 << 30).await, Err(Error::Bomb));
    }
}
