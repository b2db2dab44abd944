//! [`Pace`]: how long commits have taken lately.

use std::time::Duration;

/// Whether commits that wait for the disk have lately taken no longer than what nobody notices. Nothing is known at first.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// A bit for each of the last commits: whether it was quick. The newest is the lowest.
    lately: u8,
}

impl Pace {
    /// Most of it would pass with waking a thread, and with being woken by it: that is some tens of microseconds each, and the disk takes
    /// longer for whoever comes fresh to it.
    const QUICK: Duration = Duration::from_micros(500);

    /// How many of the last eight have to be quick: one that is not says little of the next.
    const MOST: u32 = 7;

    /// A commit took so long.
    pub(crate) fn took(&mut self, time: Duration) {
        self.lately = (self.lately << 1) | u8::from(time < Self::QUICK);
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.lately.count_ones() >= Self::MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(100);
    const LONG: Duration = Duration::from_millis(10);

    fn after(times: impl IntoIterator<Item = Duration>) -> bool {
        let mut pace = Pace::default();
        times.into_iter().for_each(|time| pace.took(time));
        pace.is_quick()
    }

    #[test]
    fn a_disk_is_taken_for_slow_until_it_has_shown_otherwise() {
        assert!(!after([]));
        assert!(!after([QUICK; 6]));
        assert!(after([QUICK; 7]));
    }

    #[test]
    fn a_few_long_commits_among_quick_ones_change_nothing_and_many_do() {
        let every = |n: usize| (0..100).map(move |at| if at % n == 0 { LONG } else { QUICK });
        assert!(after(every(8)));
        assert!(!after(every(4)));
        assert!(after(every(4).chain([QUICK; 8])));
    }
}
