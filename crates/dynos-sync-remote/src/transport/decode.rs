//! Compressed bodies, within a limit.

use std::io::{self, ErrorKind, Write};

use flate2::write::MultiGzDecoder;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use zstd::stream::{raw, write::Decoder as ZstdDecoder};

/// 8 MiB: the window that RFC 9659 lets a server use, and so the most memory that a frame may ask for.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Why a body cannot be decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is longer than the limit.
    TooLong,
    /// It is not what its header says.
    Corrupt,
    /// Its header names an encoding that was not offered.
    Unknown,
}

/// Collects a body as it arrives, decoded, up to a limit. It holds no more than that and a window.
pub(super) enum Decoder {
    Plain(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Zstd(Box<ZstdDecoder<'static, Sink>>),
}

impl Decoder {
    pub(super) fn new(headers: &HeaderMap, limit: usize) -> Result<Self, Fault> {
        let sink = Sink { bytes: Vec::new(), limit };
        match headers
            .get(CONTENT_ENCODING)
            .map(|encoding| encoding.as_bytes().to_ascii_lowercase())
            .as_deref()
        {
            None | Some(b"identity" | b"") => Ok(Self::Plain(sink)),
            Some(b"gzip" | b"x-gzip") => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(sink)))),
            Some(b"zstd") => Ok(Self::Zstd(Box::new(zstd_decoder(sink).map_err(|_| Fault::Corrupt)?))),
            Some(_) => Err(Fault::Unknown),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Plain(sink) => sink.write_all(bytes),
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zstd(decoder) => decoder.write_all(bytes),
        }
        .map_err(|error| fault(&error))
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(decoder) => decoder.finish(),
            Self::Zstd(decoder) => decoder.finish(),
        }
        .map(|sink| sink.bytes)
        .map_err(|error| fault(&error))
    }
}

fn zstd_decoder(sink: Sink) -> io::Result<ZstdDecoder<'static, Sink>> {
    let mut decoder = raw::Decoder::new()?;
    decoder.set_parameter(raw::DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
    Ok(ZstdDecoder::with_decoder(sink, decoder))
}

fn fault(error: &io::Error) -> Fault {
    if error.kind() == ErrorKind::FileTooLarge { Fault::TooLong } else { Fault::Corrupt }
}

/// What was decoded so far.
pub(super) struct Sink {
    bytes: Vec<u8>,
    limit: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(encoding: &str, body: &[u8], limit: usize, step: usize) -> Result<Vec<u8>, Fault> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        let mut decoder = Decoder::new(&headers, limit)?;
        body.chunks(step).try_for_each(|chunk| decoder.push(chunk))?;
        decoder.finish()
    }

    #[test]
    fn all_encodings_give_the_same_within_the_limit_and_nothing_beyond() {
        let text = "abc".repeat(50_000).into_bytes();
        let bodies = [
            ("identity", text.clone()),
            ("gzip", gzip(&text)),
            ("GZIP", gzip(&text)),
            ("zstd", zstd::bulk::compress(&text, 3).unwrap()),
        ];
        for (encoding, body) in bodies {
            for step in [1, 7, body.len()] {
                assert_eq!(decode(encoding, &body, text.len(), step), Ok(text.clone()), "{encoding} {step}");
                assert_eq!(
                    decode(encoding, &body, text.len() - 1, step),
                    Err(Fault::TooLong),
                    "{encoding} {step}"
                );
            }
        }
    }

    #[test]
    fn corrupt_and_unknown_are_told_apart() {
        let text = vec![7; 50_000];
        let short = |body: &[u8]| body[..body.len() - 9].to_vec();
        assert_eq!(decode("gzip", b"not gzip at all", 100, 100), Err(Fault::Corrupt));
        assert_eq!(decode("gzip", &short(&gzip(&text)), 100_000, 100), Err(Fault::Corrupt));
        assert_eq!(decode("zstd", b"not zstd at all", 100, 100), Err(Fault::Corrupt));
        assert_eq!(decode("br", b"", 100, 100), Err(Fault::Unknown));
    }

    #[test]
    fn a_frame_that_asks_for_a_huge_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&[7; 50_000]).unwrap();
        assert_eq!(decode("zstd", &encoder.finish().unwrap(), 100_000, 100), Err(Fault::Corrupt));
    }
}
