//! Server-sent events, as far as hints need them: their data. Names, ids and retry times are passed over.

/// Reads events byte by byte, so that it does not matter how the network cut them. Holds a line and an event,
/// each of at most [`Parser::MAX_BYTES`].
#[derive(Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    begun: bool,
}

/// A line or an event is longer than [`Parser::MAX_BYTES`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Oversize;

impl Parser {
    /// The longest line, and the longest data of an event, in bytes.
    pub(crate) const MAX_BYTES: usize = 64 * 1024;

    /// Takes the next byte, and answers the data of the event that it completes.
    pub(crate) fn feed(&mut self, byte: u8) -> Result<Option<Vec<u8>>, Oversize> {
        let within_crlf = byte == b'\n' && self.after_cr;
        self.after_cr = byte == b'\r';
        match byte {
            b'\n' if within_crlf => Ok(None),
            b'\n' | b'\r' => self.end_line(),
            _ if self.line.len() == Self::MAX_BYTES => Err(Oversize),
            _ => {
                self.line.push(byte);
                Ok(None)
            }
        }
    }

    fn end_line(&mut self) -> Result<Option<Vec<u8>>, Oversize> {
        let line = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line };
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return Ok(std::mem::take(&mut self.has_data).then_some(data));
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        // A comment is a field without a name.
        if name == b"data" {
            self.append(value.strip_prefix(b" ").unwrap_or(value))?;
        }
        Ok(None)
    }

    fn append(&mut self, value: &[u8]) -> Result<(), Oversize> {
        if self.data.len() + value.len() >= Self::MAX_BYTES {
            return Err(Oversize);
        }
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Vec<String>, Oversize> {
        let mut parser = Parser::default();
        let events: Result<Vec<_>, _> =
            bytes.iter().filter_map(|byte| parser.feed(*byte).transpose()).collect();
        Ok(events?.into_iter().map(|data| String::from_utf8(data).unwrap()).collect())
    }

    #[test]
    fn the_forms_of_the_standard_are_read() {
        for (text, events) in [
            ("data: a\n\n", vec!["a"]),
            ("data:a\r\n\r\ndata: b\r\r", vec!["a", "b"]),
            ("data:  a\ndata\ndata:b\n\n", vec![" a\n\nb"]),
            (": hello\n\n:\n\ndata: a\n: inside\n\n", vec!["a"]),
            ("event: x\nid: 7\nretry: 9\ndata: a:b\ndatum: c\n\n", vec!["a:b"]),
            ("\u{feff}data: a\n\n", vec!["a"]),
            ("data: a\n\u{feff}data: b\n\n", vec!["a"]),
            ("data\n\n", vec![""]),
            ("event: x\n\n\n\n", vec![]),
            ("data: unfinished\n", vec![]),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), events, "{text:?}");
        }
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let long = "x".repeat(Parser::MAX_BYTES);
        assert_eq!(parse(format!(":{long}\n\n").as_bytes()), Err(Oversize));
        assert_eq!(parse(format!("data: {long}").as_bytes()), Err(Oversize));
        assert_eq!(parse("data: 0123456789\n".repeat(10_000).as_bytes()), Err(Oversize));
        assert_eq!(parse(format!("{}data: a\n\n", ": alive\n\n".repeat(20_000)).as_bytes()).unwrap(), ["a"]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut parser = Parser::default();
            for byte in bytes {
                prop_assert!(parser.feed(byte).is_ok());
            }
        }

        #[test]
        fn whatever_ends_the_lines_the_events_are_the_same(
            lines in proptest::collection::vec("(data|event|)(: ?)?[a-z:]{0,5}", 0..20)
        ) {
            let joined = |end: &str| lines.iter().flat_map(|line| [line.as_str(), end]).collect::<String>();
            let expected = parse(joined("\n").as_bytes()).unwrap();
            prop_assert_eq!(parse(joined("\r\n").as_bytes()).unwrap(), expected.clone());
            prop_assert_eq!(parse(joined("\r").as_bytes()).unwrap(), expected);
        }
    }
}
