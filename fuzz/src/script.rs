//! Inputs are lines of text, so that seeds can be read and a dictionary helps.

use tempfile::TempDir;

/// The most lines of an input that are looked at: what comes later finds nothing new, and takes time.
const LINES: usize = 16;

/// The input's lines.
pub(crate) fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(LINES)
}

/// The input's lines, where it is text.
pub(crate) fn text_lines(data: &[u8]) -> Vec<&str> {
    lines(data).filter_map(|line| std::str::from_utf8(line).ok()).collect()
}

/// A folder for databases. `scripts/fuzz` says where, with `TMPDIR`: libFuzzer ends a process without tidying up.
pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// One input of so many goes the whole way.
const WHOLE: u64 = 32;

/// Judges an input by the whole way, with new files, or by a shorter one, in a fraction of the time. The input itself says by
/// which, in no way that can be seen. The corpus goes both ways.
pub(crate) fn in_two_ways(data: &[u8], whole: impl FnOnce(), short: impl FnOnce()) {
    let mark = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |mark, byte| {
        (mark ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let is_whole = (mark >> 32).is_multiple_of(WHOLE);
    if is_whole || cfg!(test) {
        whole();
    }
    if !is_whole || cfg!(test) {
        short();
    }
}

/// All occurrences of a word replaced.
pub(crate) fn replace(bytes: &[u8], word: &[u8], with: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(place) = rest.windows(word.len()).position(|window| window == word) {
        replaced.extend_from_slice(&rest[..place]);
        replaced.extend_from_slice(with);
        rest = &rest[place + word.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
