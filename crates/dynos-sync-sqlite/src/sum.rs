//! [`Seal`]: sums beside what the engine keeps, so that damage shows.
//!
//! SQLite keeps no sums of its pages: a bit that flips inside a text is another text. What the engine means to send one day
//! is nowhere else, so it carries a sum. The sum begins with a number that is drawn anew for every session: what was kept for
//! another user, or in another file, has no right sum here.
//!
//! A sum is no signature. Whoever can write the file can write sums.

use crate::{error::Result, random::Random};

/// The number that a session's sums begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seal(pub(crate) i64);

impl Seal {
    pub(crate) fn draw(random: &Random) -> Result<Self> {
        let [a, b, c, d, e, f, g, h, ..] = random.bytes()?;
        Ok(Self(i64::from_le_bytes([a, b, c, d, e, f, g, h])))
    }

    pub(crate) fn sum(self) -> Sum {
        Sum::new().int(self.0)
    }
}

/// A sum that is being made (FNV-1a, 64 bits). Each step is reversible, so what differs in one byte always has another sum.
#[derive(Clone, Copy)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Of nothing.
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn int(self, value: i64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.int(text.len() as i64).bytes(text.as_bytes())
    }

    pub(crate) fn maybe(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.int(1).text(text),
            None => self.int(0),
        }
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    /// As SQLite keeps it.
    pub(crate) fn end(self) -> i64 {
        self.0 as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_other_seal_shows() {
        let text = "{\"title\":\"milk\",\"done\":false}";
        let sum = |seal: i64, text: &[u8]| Seal(seal).sum().bytes(text).end();
        let right = sum(7, text.as_bytes());
        for bit in 0..text.len() * 8 {
            let mut flipped = text.as_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum(7, &flipped), right, "bit {bit}");
        }
        assert!((0..64).all(|bit| sum(7 ^ (1 << bit), text.as_bytes()) != right));
    }

    #[test]
    fn what_moves_from_one_part_to_the_next_shows() {
        let sum = |a: &str, b: Option<&str>| Seal(1).sum().text(a).maybe(b).end();
        let all = [sum("ab", None), sum("ab", Some("")), sum("a", Some("b")), sum("", Some("ab"))];
        assert!((0..4).all(|n| !all[n + 1..].contains(&all[n])), "{all:?}");
    }
}
