//! Schedules against a plain reading of the week.

use grey_model::time::parse_rfc3339_ms;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> i64 {
    parse_rfc3339_ms(text).unwrap()
}

fn bulk(windows: &[&str], offset: i32) -> Schedule {
    let windows = windows.iter().map(|text| text.parse().unwrap()).collect();
    Schedule::new([None, None, Some(windows)], offset).unwrap()
}

#[test]
fn a_night_reaches_into_the_next_day() {
    // 2026-03-06 was a Friday.
    let schedule = bulk(&["mon-fri 22:00-06:00"], 0);
    for (time, open) in [
        ("2026-03-06T21:59:59Z", false),
        ("2026-03-06T22:00:00Z", true),
        ("2026-03-07T05:59:59Z", true),
        ("2026-03-07T06:00:00Z", false),
        ("2026-03-07T23:00:00Z", false),
        ("2026-03-09T03:00:00Z", false),
        ("2026-03-09T22:00:00Z", true),
    ] {
        assert_eq!(schedule.open(at(time), Lane::Bulk), open, "{time}");
    }
    assert_eq!(schedule.next_open(at("2026-03-07T06:00:00Z"), Lane::Bulk), Some(at("2026-03-09T22:00:00Z")));
    assert_eq!(schedule.next_open(at("2026-03-06T23:00:00Z"), Lane::Bulk), None);
    assert!(schedule.open(at("2026-03-07T12:00:00Z"), Lane::Normal));
}

#[test]
fn the_offset_moves_the_windows() {
    let schedule = bulk(&["22:00-06:00"], 120);
    assert!(schedule.open(at("2026-03-06T20:00:00Z"), Lane::Bulk));
    assert!(!schedule.open(at("2026-03-06T04:00:00Z"), Lane::Bulk));
}

#[test]
fn windows_are_read_and_refused() {
    let days = |text: &str| text.parse::<Window>().unwrap().days;
    assert_eq!(days("sat,sun"), 0b110_0000);
    assert_eq!(days("Fri-Mon,wed 01:00-02:00"), 0b111_0101);
    assert_eq!(days("00:00-24:00"), 0b111_1111);
    for bad in ["", "22:00", "22-06", "25:00-26:00", "12:60-13:00", "24:00-01:00", "someday", "mon fri", "+1:00-02:00"]
    {
        assert!(bad.parse::<Window>().is_err(), "{bad}");
    }
    assert!(Window::new([false; 7], 0, 1).is_err());
    assert!(Schedule::new([None, Some(vec![]), None], 0).is_err());
    assert!(Schedule::new([None, None, None], 2_000).is_err());
}

proptest! {
    #[test]
    fn next_open_is_the_first_open_minute(
        days in prop::array::uniform7(any::<bool>()),
        from in 0_u16..1_440,
        to in 0_u16..=1_440,
        offset in -1_080_i32..=1_080,
        now in -4_000_000_000_000_i64..4_000_000_000_000,
    ) {
        prop_assume!(days.iter().any(|day| *day));
        let window = Window::new(days, from, to).unwrap();
        let schedule = Schedule::new([None, None, Some(vec![window])], offset).unwrap();
        let minute = now.div_euclid(MINUTE_MS);
        let first = (0..=WEEK_MINUTES).find(|n| schedule.open((minute + n) * MINUTE_MS, Lane::Bulk)).unwrap();
        let expected = (first > 0).then(|| (minute + first) * MINUTE_MS);
        prop_assert_eq!(schedule.next_open(now, Lane::Bulk), expected);
    }

    #[test]
    fn any_text_and_any_time_are_borne(text in "\\PC{0,40}", now: i64) {
        let windows = vec![text.parse().unwrap_or(Window::new([true; 7], 0, 1).unwrap())];
        let schedule = Schedule::new([Some(windows), None, None], 0).unwrap();
        schedule.next_open(now, Lane::Critical);
    }
}
