//! What the way to the hub may carry, and when: budgets and schedules.

use grey_config::{Check, Size, section};
use grey_link::{BudgetConfig, Schedule, Window};
use grey_model::Lane;

/// Offset of a zone from UTC in minutes, either way.
const OFFSET_MAX: u16 = 14 * 60;

section! {
    /// Bytes that the uplink may carry. Signs of life go in any case, and count.
    pub struct Budget {
        /// Bytes per second on average.
        pub per_second: Option<Size> = None,
        /// Bytes per day of UTC.
        pub per_day: Option<Size> = None,
        /// Bytes per billing month.
        pub per_month: Option<Size> = None,
        /// The day of the month on which the billing month begins at 00:00 UTC, 1 to 28.
        pub billing_day: u16 = 1,
        /// Critical events do not wait for the budget, but count.
        pub exempt_critical: bool = false,
    }
}

section! {
    /// A time at which lanes may use the uplink. A lane that no entry names always may.
    pub struct LinkTime {
        /// The lanes.
        pub lanes: Vec<Lane> = vec![Lane::Bulk],
        /// When it begins, HH:MM.
        pub from: String = "00:00".to_owned(),
        /// When it ends, HH:MM; at or before its beginning is on the next day.
        pub to: String = "24:00".to_owned(),
        /// The days on which it begins: mon to sun, and ranges such as mon-fri. Default: every day.
        pub days: Vec<String> = Vec::new(),
        /// Minutes by which the times are ahead of UTC, 0 to 840.
        pub east_of_utc: u16 = 0,
        /// Minutes by which the times are behind UTC, 0 to 840.
        pub west_of_utc: u16 = 0,
    }
}

impl Budget {
    /// As the link takes it.
    pub fn to_config(&self) -> BudgetConfig {
        let bytes = |size: &Option<Size>| size.map(Size::bytes);
        BudgetConfig {
            bytes_per_s: bytes(&self.per_second),
            burst_bytes: 0,
            bytes_per_day: bytes(&self.per_day),
            bytes_per_month: bytes(&self.per_month),
            billing_day: u8::try_from(self.billing_day).unwrap_or(u8::MAX),
        }
    }

    pub(super) fn check(&self, check: &mut Check<'_>) {
        check.within("edge.connectivity.budget.billing_day", &self.billing_day, 1, 28);
        for (key, size) in [("per_second", self.per_second), ("per_day", self.per_day), ("per_month", self.per_month)] {
            if let Some(size) = size {
                let most = Size::from_bytes(1 << 50);
                check.within(&format!("edge.connectivity.budget.{key}"), &size, Size::from_bytes(1_024), most);
            }
        }
    }
}

impl LinkTime {
    fn window(&self) -> Result<Window, String> {
        let text = format!("{} {}-{}", self.days.join(","), self.from, self.to);
        text.trim().parse().map_err(|error: grey_link::ScheduleError| error.to_string())
    }

    fn offset_minutes(&self) -> i32 {
        i32::from(self.east_of_utc) - i32::from(self.west_of_utc)
    }
}

/// When each lane may use the link; times that cannot be read are left out, since they were refused before.
pub(super) fn schedule(times: &[LinkTime]) -> Schedule {
    let windows = Lane::ALL.map(|lane| {
        let of_lane = times.iter().filter(|time| time.lanes.contains(&lane));
        let windows: Vec<Window> = of_lane.filter_map(|time| time.window().ok()).collect();
        (!windows.is_empty()).then_some(windows)
    });
    let offset = times.first().map_or(0, LinkTime::offset_minutes);
    Schedule::new(windows, offset).unwrap_or_default()
}

pub(super) fn check_schedule(times: &[LinkTime], check: &mut Check<'_>) {
    for (n, time) in times.iter().enumerate() {
        let key = |name: &str| format!("edge.connectivity.schedule[{n}]{name}");
        if let Err(problem) = time.window() {
            check.reject(&key(""), problem, "days such as mon-fri, from and to such as 22:00 and 06:00");
        }
        if time.lanes.is_empty() {
            check.reject(&key(".lanes"), "names no lane".to_owned(), "critical, normal, bulk");
        }
        check.within(&key(".east_of_utc"), &time.east_of_utc, 0, OFFSET_MAX);
        check.within(&key(".west_of_utc"), &time.west_of_utc, 0, OFFSET_MAX);
        if time.offset_minutes() != times[0].offset_minutes() {
            let allowed = "the same zone in every entry";
            check.reject(&key(".east_of_utc"), "is another zone than in the first entry".to_owned(), allowed);
        }
    }
}
