//! Budgets against their laws, whatever the clock does.

use grey_model::time::parse_rfc3339_ms;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> i64 {
    parse_rfc3339_ms(text).unwrap()
}

fn budget(config: BudgetConfig) -> Budget {
    Budget::new(config, BudgetUsage::default()).unwrap()
}

const NONE: BudgetConfig = BudgetConfig::UNLIMITED;

#[test]
fn a_day_is_used_up_exactly_and_begins_at_midnight() {
    let mut budget = budget(BudgetConfig { bytes_per_day: Some(1_000), ..NONE });
    let noon = at("2026-03-31T12:00:00Z");
    assert_eq!(budget.take(noon, 600), Ok(()));
    assert_eq!(budget.take(noon, 400), Ok(()));
    let midnight = at("2026-04-01T00:00:00Z");
    let wait = BudgetWait { until_ms: midnight, limit: BudgetLimit::Day };
    assert_eq!(budget.take(noon, 1), Err(wait));
    assert_eq!(budget.take(midnight - 1, 1), Err(wait));
    assert_eq!(budget.take(midnight, 1_000), Ok(()));
    assert!(budget.take(midnight, 1).is_err());
}

#[test]
fn the_billing_month_begins_on_its_day() {
    let mut budget = budget(BudgetConfig { bytes_per_month: Some(100), billing_day: 15, ..NONE });
    assert_eq!(budget.take(at("2026-01-14T23:59:59Z"), 100), Ok(()));
    assert_eq!(budget.take(at("2026-01-15T00:00:00Z"), 100), Ok(()));
    let wait = BudgetWait { until_ms: at("2026-02-15T00:00:00Z"), limit: BudgetLimit::Month };
    assert_eq!(budget.take(at("2026-02-01T00:00:00Z"), 1), Err(wait));
    assert_eq!(budget.take(at("2026-02-15T00:00:00Z"), 1), Ok(()));
}

#[test]
fn what_was_used_too_much_is_missing_later() {
    let mut budget = budget(BudgetConfig { bytes_per_day: Some(1_000), ..NONE });
    let noon = at("2026-03-01T12:00:00Z");
    // Larger than a whole day: goes, and takes two more days with it.
    assert_eq!(budget.take(noon, 2_500), Ok(()));
    let until = budget.next_allowed(noon, 500).unwrap().until_ms;
    assert_eq!(until, at("2026-03-03T00:00:00Z"));
    assert_eq!(budget.take(until, 500), Ok(()));
    assert!(budget.take(until, 1).is_err());
}

#[test]
fn seconds_flow_at_the_rate() {
    let mut budget = budget(BudgetConfig { bytes_per_s: Some(1_000), burst_bytes: 500, ..NONE });
    assert_eq!(budget.take(0, 500), Ok(()));
    assert_eq!(budget.take(0, 100), Err(BudgetWait { until_ms: 100, limit: BudgetLimit::Second }));
    assert_eq!(budget.take(100, 100), Ok(()));
    // Larger than the burst: when the bucket is full, and the debt is waited for.
    assert_eq!(budget.next_allowed(100, 4_000).map(|wait| wait.until_ms), Some(600));
    assert_eq!(budget.take(600, 4_000), Ok(()));
    assert_eq!(budget.next_allowed(600, 1).map(|wait| wait.until_ms), Some(4_101));
}

#[test]
fn a_restart_grants_nothing() {
    let config = BudgetConfig { bytes_per_day: Some(1_000), bytes_per_month: Some(5_000), ..NONE };
    let noon = at("2026-03-01T12:00:00Z");
    let mut before = budget(config);
    before.take(noon, 900).unwrap();
    let saved: BudgetUsage = before.usage().to_string().parse().unwrap();
    let mut after = Budget::new(config, saved).unwrap();
    assert!(after.take(noon + 1, 101).is_err());
    assert_eq!(after.take(noon + 1, 100), Ok(()));
    for bad in ["", "1 2 3 4", "2 1 2 3 4", "1 a 2 3 4", "1 2 3 4 5 6", "1 9223372036854775807 1 1 1"] {
        assert!(bad.parse::<BudgetUsage>().is_err(), "{bad}");
    }
}

#[test]
fn a_clock_that_steps_over_midnight_and_back_grants_one_day() {
    let mut budget = budget(BudgetConfig { bytes_per_day: Some(1_000), ..NONE });
    let midnight = at("2026-03-02T00:00:00Z");
    let mut granted = 0;
    for n in 0..100 {
        let now = midnight + if n % 2 == 0 { -500 } else { 500 };
        granted += std::iter::from_fn(|| budget.take(now, 10).ok()).count() * 10;
    }
    assert_eq!(granted, 2_000);
}

#[test]
fn nonsense_is_refused_and_said() {
    for config in [
        BudgetConfig { billing_day: 0, ..NONE },
        BudgetConfig { billing_day: 29, ..NONE },
        BudgetConfig { bytes_per_s: Some(0), ..NONE },
        BudgetConfig { bytes_per_month: Some(u64::MAX), ..NONE },
    ] {
        assert!(config.check().unwrap_err().to_string().contains("give 1 to"), "{config:?}");
    }
}

fn any_config() -> impl Strategy<Value = BudgetConfig> {
    let limit = |max: u64| prop::option::of(1..max);
    (limit(100_000), 0_u64..200_000, limit(10_000_000), limit(100_000_000), 1_u8..29).prop_map(
        |(bytes_per_s, burst_bytes, bytes_per_day, bytes_per_month, billing_day)| BudgetConfig {
            bytes_per_s,
            burst_bytes,
            bytes_per_day,
            bytes_per_month,
            billing_day,
        },
    )
}

proptest! {
    /// With a clock that only moves on, no span of time carries more than its allowances.
    #[test]
    fn nothing_is_granted_twice(
        config in any_config(),
        start in 0_i64..4_000_000_000_000,
        steps in prop::collection::vec((0_i64..400_000_000, 1_u64..500_000, any::<bool>()), 1..200),
    ) {
        let mut budget = budget(config);
        let (mut now, mut total, mut largest) = (start, 0_u64, 0_u64);
        let (mut days, mut months) = (1_u64, 1_u64);
        let month_of = |now: i64| month_start(now.div_euclid(DAY_MS), config.billing_day);
        for (step, bytes, restarts) in steps {
            let next = now + step;
            days += (next.div_euclid(DAY_MS) - now.div_euclid(DAY_MS)) as u64;
            months += months_between(month_of(now), month_of(next)) as u64;
            now = next;
            let before = budget.usage();
            match budget.take(now, bytes) {
                Ok(()) => { total += bytes; largest = largest.max(bytes); }
                Err(wait) => {
                    prop_assert!(wait.until_ms > now);
                    prop_assert_eq!(budget.next_allowed(now, bytes), Some(wait));
                    prop_assert!(budget.usage().day_bytes <= before.day_bytes);
                    // It fits then, and the day and month not a moment before.
                    let mut later = budget.clone();
                    prop_assert_eq!(later.take(wait.until_ms, bytes), Ok(()));
                    let mut early = budget.clone();
                    prop_assert!(early.take(wait.until_ms - 1, bytes).is_err());
                }
            }
            if restarts && config.bytes_per_s.is_none() {
                budget = Budget::new(config, budget.usage().to_string().parse().unwrap()).unwrap();
            }
        }
        let slack = largest;
        if let Some(rate) = config.bytes_per_s {
            let burst = if config.burst_bytes == 0 { rate } else { config.burst_bytes };
            prop_assert!(total <= burst + slack + rate * ((now - start) as u64).div_ceil(1_000));
        }
        if let Some(day) = config.bytes_per_day {
            prop_assert!(total <= day * days + slack.saturating_sub(day), "{total} in {days} days of {day}");
        }
        if let Some(month) = config.bytes_per_month {
            prop_assert!(total <= month * months + slack.saturating_sub(month), "{total} in {months} months of {month}");
        }
    }

    /// Whatever the clock does, each jump grants one allowance at most, and the wait ends.
    #[test]
    fn no_jump_grants_without_bound_or_blocks_for_ever(
        config in any_config(),
        times in prop::collection::vec(any::<i64>(), 1..50),
    ) {
        let mut budget = budget(config);
        for (n, now) in times.iter().copied().enumerate() {
            let mut granted = 0_u64;
            while granted < 20_000_000 && budget.take(now, 10_000).is_ok() {
                granted += 10_000;
            }
            if let Some(day) = config.bytes_per_day {
                prop_assert!(granted <= day.max(10_000), "jump {n} granted {granted}");
            }
        }
        // The clock is right at last: within two months the link is open again.
        let now = 1_760_000_000_000_i64;
        budget.next_allowed(now, 1_000);
        if let Some(wait) = budget.next_allowed(now, 1_000) {
            let largest = 50 * 10_000_u64;
            let debts = config.bytes_per_day.map_or(0, |day| largest / day) as i64;
            let month_debts = config.bytes_per_month.map_or(0, |month| largest / month) as i64;
            let limit = now + (debts + 3 + 31 * (month_debts + 3)) * DAY_MS + 600_000_000;
            prop_assert!(wait.until_ms <= limit, "{wait:?} at {now}");
        }
    }

    #[test]
    fn usage_survives_as_text(day in -1_000_000_i64..1_000_000, day_bytes: u64, month in -1_000_000_i64..1_000_000, month_bytes: u64) {
        let usage = BudgetUsage { day, day_bytes, month, month_bytes };
        prop_assert_eq!(usage.to_string().parse(), Ok(usage));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
        let _ = text.parse::<BudgetUsage>();
    }
}
