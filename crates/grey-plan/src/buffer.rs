//! How long an outbox of so many bytes lasts, level by level of the overflow ladder.
//!
//! Let `f` be the bytes a second that arrive without a link, `s` the share of
//! them that the ladder may thin and roll up, and `p` by how much packing
//! shrinks a backlog. Below 70 % nothing is packed. From there everything that
//! waits is, so a data volume of `D` takes `D / p` bytes:
//!
//! | Level | Reached after |
//! |---|---|
//! | warning | `0.70·B / f` |
//! | critical: the first reading may be lost | `0.85·B·p / f` |
//! | emergency: sheddable readings are halved | `0.95·B·p / f / ((1 − s) + s/2)` |
//! | full: sheddable readings are a tenth | `B·p / f / ((1 − s) + s/10)` |

use serde::Serialize;

/// Shares of the buffer at which the ladder's levels begin.
const WARNING: f64 = 0.70;
const CRITICAL: f64 = 0.85;
const EMERGENCY: f64 = 0.95;
/// What thinning leaves of readings.
const THINNED: f64 = 0.5;
/// What rolling up leaves of readings.
const ROLLED_UP: f64 = 0.1;

/// How much smaller a backlog gets when its small blocks are merged and compressed hard.
pub(crate) const PACKING: f64 = 1.1;

/// An outbox and how long it lasts. Times are seconds without a link; infinite where nothing arrives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Buffer {
    /// Its bytes.
    pub bytes: f64,
    /// Bytes a second that arrive.
    pub fill_bytes_per_s: f64,
    /// Until the buffer would be full if nothing were packed, thinned or rolled up.
    pub plain_s: f64,
    /// Until 70 %: it warns and begins to pack.
    pub warning_s: f64,
    /// Until 85 %, packed: up to here nothing is lost, and from here sheddable readings are thinned.
    pub critical_s: f64,
    /// Until 95 %: from here sheddable readings are rolled up.
    pub emergency_s: f64,
    /// Until it is full, packed, with nothing thinned or rolled up: what lanes that allow no loss get.
    pub full_lossless_s: f64,
    /// Until it is full with everything sheddable rolled up.
    pub full_s: f64,
}

impl Buffer {
    /// A buffer of `bytes` that gets `fill` bytes a second, of which the share `sheddable` may be thinned and rolled up.
    pub fn new(bytes: f64, fill: f64, sheddable: f64) -> Self {
        let lasts = |level: f64, left_of_sheddable: f64| {
            let kept = (1.0 - sheddable) + sheddable * left_of_sheddable;
            if fill > 0.0 { level * bytes * PACKING / (fill * kept) } else { f64::INFINITY }
        };
        let plain = |level: f64| if fill > 0.0 { level * bytes / fill } else { f64::INFINITY };
        Self {
            bytes,
            fill_bytes_per_s: fill,
            plain_s: plain(1.0),
            warning_s: plain(WARNING),
            critical_s: lasts(CRITICAL, 1.0),
            emergency_s: lasts(EMERGENCY, THINNED),
            full_lossless_s: lasts(1.0, 1.0),
            full_s: lasts(1.0, ROLLED_UP),
        }
    }

    /// Bytes on disk that are needed so that nothing is lost in an outage of `seconds`.
    pub fn bytes_for(seconds: f64, fill: f64) -> f64 {
        seconds * fill / (CRITICAL * PACKING)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn levels_follow_the_formulas() {
        let buffer = Buffer::new(32e9, 32e9 / 86_400.0, 1.0);
        assert!((buffer.plain_s - 86_400.0).abs() < 1e-6);
        assert!((buffer.warning_s - 0.7 * 86_400.0).abs() < 1e-6);
        assert!((buffer.critical_s - 0.85 * 1.1 * 86_400.0).abs() < 1e-6);
        assert!((buffer.emergency_s - 0.95 * 1.1 * 2.0 * 86_400.0).abs() < 1e-6);
        assert!((buffer.full_s - 11.0 * 86_400.0).abs() < 1e-3);
        assert_eq!(Buffer::new(1.0, 0.0, 0.5).full_s, f64::INFINITY);
    }

    proptest! {
        #[test]
        fn levels_come_in_their_order(bytes in 1.0..1e13, fill in 1e-3..1e9, sheddable in 0.0..=1.0) {
            let b = Buffer::new(bytes, fill, sheddable);
            prop_assert!(b.warning_s <= b.critical_s && b.critical_s <= b.emergency_s && b.emergency_s <= b.full_s);
            prop_assert!(b.full_lossless_s <= b.full_s && b.plain_s <= b.full_lossless_s);
        }

        #[test]
        fn what_an_outage_needs_lasts_for_it(seconds in 1.0..1e8, fill in 1e-3..1e9) {
            let bytes = Buffer::bytes_for(seconds, fill);
            prop_assert!((Buffer::new(bytes, fill, 0.0).critical_s / seconds - 1.0).abs() < 1e-9);
        }
    }
}
