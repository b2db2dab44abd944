//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with full jitter: a random pause of up to `min(cap, 1 s · 2^attempts)`, and at least half
/// of that. (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog 2015: "equal jitter".)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Whether the pause grows. Without, every pause is like the first.
    pub exponential: bool,
    /// The longest pause.
    pub cap: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);

    /// The pause after `failures` failures in a row (1 and up); `random` is any number, evenly distributed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use dynos_sync_core::plan::backoff::Backoff;
    /// let backoff = Backoff { exponential: true, cap: Duration::from_secs(60) };
    /// assert_eq!(backoff.pause(1, u64::MAX), Duration::from_secs(2));
    /// assert_eq!(backoff.pause(1, 0), Duration::from_secs(1));
    /// assert_eq!(backoff.pause(200, u64::MAX), Duration::from_secs(60));
    /// ```
    pub fn pause(&self, failures: u32, random: u64) -> Duration {
        let exponent = if self.exponential { failures } else { 1 };
        let factor = 2_u32.checked_pow(exponent).unwrap_or(u32::MAX);
        let longest = Self::FIRST.saturating_mul(factor).min(self.cap);
        let share = random as f64 / u64::MAX as f64;
        (longest / 2 + (longest / 2).mul_f64(share)).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_thousand_devices_do_not_come_back_at_once() {
        let backoff = Backoff { exponential: true, cap: Duration::from_secs(60) };
        for failures in 4..40 {
            // Evenly distributed numbers, the same in every run (SplitMix64).
            let random = |n: u64| {
                let mixed = (n + 1 + u64::from(failures) * 1000).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
                mixed ^ (mixed >> 31)
            };
            let mut buckets = std::collections::BTreeMap::new();
            for device in 0..1000 {
                let pause = backoff.pause(failures, random(device));
                *buckets.entry(pause.as_millis() / 100).or_insert(0_usize) += 1;
            }
            let (first, last) = (buckets.keys().min().unwrap(), buckets.keys().max().unwrap());
            let mean = 1000.0 / (last - first + 1) as f64;
            let busiest = *buckets.values().max().unwrap() as f64;
            assert!(last - first >= 75 && busiest < 5.0 * mean, "{failures}: {busiest} of a mean of {mean}");
        }
    }

    proptest! {
        #[test]
        fn a_pause_lies_between_half_of_the_step_and_the_step(
            failures in 1..300u32, random in any::<u64>(), cap_ms in 0..100_000u64
        ) {
            let cap = Duration::from_millis(cap_ms);
            let pause = Backoff { exponential: true, cap }.pause(failures, random);
            let step = Duration::from_secs(1_u64 << failures.min(40)).min(cap);
            prop_assert!(pause <= step && pause + Duration::from_nanos(10) >= step / 2, "{pause:?} {step:?}");
            let flat = Backoff { exponential: false, cap }.pause(failures, random);
            prop_assert!(flat <= Duration::from_secs(2));
        }
    }
}
