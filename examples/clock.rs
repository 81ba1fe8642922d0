//! A hybrid logical clock under a wall clock that misbehaves.
//!
//! `cargo run -p grey-examples --example clock`

use grey_clock::{ClockError, HybridClock};
use grey_model::Stamp;

fn main() -> Result<(), ClockError> {
    let noon = 1_767_225_600_000;
    let mut clock = HybridClock::default();

    // It follows the wall clock, and counts within a millisecond.
    let first = clock.now(noon, 2);
    let second = clock.now(noon, 2);
    assert!(second > first && second.unix_ms() == noon);

    // The wall clock is set back by ten seconds: stamps still rise, and say how far off they may be.
    let after_step = clock.now(noon - 10_000, 2);
    assert!(after_step > second);
    assert_eq!(after_step.uncertainty_ms, 10_002);
    assert_eq!(clock.lead_ms(noon - 10_000), 10_000);

    // A message of another site with a faster clock: what follows it gets a later stamp.
    let theirs = Stamp::at_unix_ms(noon + 500);
    clock.observe(theirs, noon + 100)?;
    assert!(clock.now(noon + 100, 2) > theirs);

    // One that is a day ahead would drag everyone along: it is refused.
    let error = clock.observe(Stamp::at_unix_ms(noon + 86_400_000), noon).expect_err("over the limit");
    assert!(matches!(error, ClockError::Drift { ahead_ms: 86_400_000, .. }));
    println!("{error}");

    // After a restart the last stamp of the log is restored, whatever the wall clock says now.
    let last = clock.last();
    let mut restarted = HybridClock::default();
    restarted.restore(last)?;
    assert!(restarted.now(noon - 3_600_000, 2) > last);
    Ok(())
}
