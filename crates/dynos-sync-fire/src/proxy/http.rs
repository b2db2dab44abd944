//! As much of HTTP/1.1 as is needed to do wrong by it.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub(super) struct Request {
    raw: Vec<u8>,
    head: usize,
    pub(super) path: String,
}

impl Request {
    /// Reads one request. `None` where the other side closed without sending any.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut raw = Vec::new();
        loop {
            if let Some(request) = Self::parse(&raw) {
                return Ok(Some(request));
            }
            if from.read_buf(&mut raw).await? == 0 {
                return if raw.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn parse(raw: &[u8]) -> Option<Self> {
        let head = head_length(raw)?;
        let text = String::from_utf8_lossy(raw.get(..head)?).into_owned();
        let length = header(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        (raw.len() >= head + length).then(|| Self { raw: raw.to_vec(), head, path })
    }

    /// Whether it is longer than any record alone: that those are too large is believed, and they are given up.
    pub(super) fn is_long(&self) -> bool {
        self.raw.len() - self.head > 9000
    }

    pub(super) fn is_events(&self) -> bool {
        self.path == "/v1/events"
    }

    /// The bytes for the server, which is to close the connection after its answer.
    pub(super) fn onward(&self, plain_answer: bool) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.raw[..self.head]);
        let mut head = String::new();
        for line in text.trim_end().split("\r\n") {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            if name == "connection" || (plain_answer && name == "accept-encoding") {
                continue;
            }
            head.push_str(line);
            head.push_str("\r\n");
        }
        head.push_str("connection: close\r\n\r\n");
        [head.as_bytes(), &self.raw[self.head..]].concat()
    }
}

/// Where the head of a message ends.
pub(super) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4)
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// A whole answer.
pub(super) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

/// An error answer of the protocol's.
pub(super) fn error(status: &str, code: &str, headers: &str) -> Vec<u8> {
    let body = format!(r#"{{"error":{{"code":"{code}","message":"so says the network"}}}}"#);
    answer(status, &format!("content-type: application/json\r\n{headers}"), body.as_bytes())
}

/// The answer with a part of its body only, and a head that says that this is all. `None` where the head does not say how long the
/// body is.
pub(super) fn shortened(reply: &[u8], share: f64) -> Option<Vec<u8>> {
    let at = head_length(reply)?;
    let text = String::from_utf8_lossy(&reply[..at]).into_owned();
    let length = header(&text, "content-length")?;
    let body = &reply[at..];
    let kept = ((body.len() as f64 * share) as usize).min(body.len().checked_sub(1)?);
    let lines = text.trim_end().split("\r\n").map(|line| match line.split_once(':') {
        Some((name, _)) if name.eq_ignore_ascii_case("content-length") => format!("{name}: {kept}"),
        _ => line.to_owned(),
    });
    debug_assert!(length.parse() == Ok(body.len()), "the server says how long its answers are");
    let head = lines.collect::<Vec<_>>().join("\r\n") + "\r\n\r\n";
    Some([head.as_bytes(), &body[..kept]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_read_whole_and_told_to_close() {
        let raw =
            b"POST /v1/push HTTP/1.1\r\nAccept-Encoding: zstd\r\nContent-Length: 4\r\n\r\nbody".to_vec();
        let request = Request::read(&mut raw.as_slice()).await.ok().flatten().expect("a request");
        assert_eq!(request.path, "/v1/push");
        let onward = String::from_utf8(request.onward(true)).expect("text");
        assert_eq!(
            onward, "POST /v1/push HTTP/1.1\r\nContent-Length: 4\r\nconnection: close\r\n\r\nbody",
            "compressed answers are not asked for"
        );
        assert!(Request::read(&mut &raw[..raw.len() - 1]).await.is_err(), "a part is no request");
    }

    #[test]
    fn a_shortened_answer_claims_to_be_whole() {
        let whole = answer("200 OK", "", b"0123456789");
        let short = shortened(&whole, 0.5).expect("a length is named");
        assert!(short.ends_with(b"\r\n\r\n01234"));
        assert!(String::from_utf8_lossy(&short).contains("content-length: 5\r\n"));
    }
}
