//! The sizing tables of the specification, each number computed once more from
//! the numbers that it should follow from.
//!
//! Inputs are what the specification states about the deployment and cannot be
//! derived from anything else in it: 1,000 sites in three hubs' regions, 50,000
//! devices with their rates, 10 M events and 2.5 GB a minute, the events and
//! bytes behind each tier, links, prices of machines. What is derived from them
//! stands beside the stated number, with the reason where the two differ.

use serde::Serialize;

use crate::{DAY_S, GB, bits_text, bytes_text, money_text, span_text};

/// What became of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It follows from its inputs.
    Follows,
    /// Its inputs give another number.
    Differs,
    /// Nothing that is stated determines it.
    Open,
}

impl Verdict {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Follows => "follows",
            Self::Differs => "differs",
            Self::Open => "open",
        }
    }
}

/// One number of one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// The table.
    pub table: &'static str,
    /// Row and column.
    pub cell: String,
    /// As stated.
    pub stated: String,
    /// As its inputs give it.
    pub computed: String,
    /// How the two stand to each other.
    pub verdict: Verdict,
    /// From what it was computed, and why the two differ.
    pub why: String,
}

/// Sites of the deployment.
const SITES: f64 = 1_000.0;
/// Hubs of the data flow and of the cost table.
const HUBS: f64 = 3.0;
/// Device classes: devices, events a second of one.
const CLASSES: [(&str, f64, f64); 5] = [
    ("temperature sensors", 20_000.0, 1.0 / 60.0),
    ("vibration monitors", 15_000.0, 10.0),
    ("cameras", 5_000.0, 30.0),
    ("energy meters", 8_000.0, 1.0 / 15.0),
    ("PLCs", 2_000.0, 100.0),
];
/// Events and bytes a minute behind each tier: raw, edge, hub, cloud.
const FLOW: [(f64, f64); 4] = [(10e6, 2.5e9), (2e6, 500e6), (500e3, 100e6), (200e3, 50e6)];
/// Buffers: GB, hours offline, price, minutes to sync.
const BUFFERS: [(f64, f64, f64, f64); 4] =
    [(8.0, 6.0, 20.0, 5.0), (32.0, 24.0, 50.0, 18.0), (128.0, 96.0, 150.0, 72.0), (512.0, 384.0, 400.0, 300.0)];
/// Bytes a day that a buffer is said to fill with.
const FILL_PER_DAY: f64 = 1.2 * GB;
/// The mobile link of the bandwidth table, bits a second.
const MOBILE: f64 = 10e6;
/// Relative difference of two numbers that agree: what was rounded.
const ROUNDED: f64 = 0.06;

/// Every cell, in the order of the specification.
pub fn cells() -> Vec<Cell> {
    let mut cells = Cells(Vec::new());
    devices(&mut cells);
    flow(&mut cells);
    resilience(&mut cells);
    costs(&mut cells);
    bandwidth(&mut cells);
    modes(&mut cells);
    buffers(&mut cells);
    lessons(&mut cells);
    cells.0
}

/// Bytes a day that one site's buffer must take so that `gb` last for `hours`.
pub fn implied_bytes_per_day(gb: f64, hours: f64) -> f64 {
    gb * GB / hours * 24.0
}

/// Bits a second that carry `gb` in `minutes`.
pub fn implied_bits_per_s(gb: f64, minutes: f64) -> f64 {
    gb * GB * 8.0 / (minutes * 60.0)
}

struct Cells(Vec<Cell>);

impl Cells {
    /// Compares two numbers and shows them by `text`.
    fn check(
        &mut self,
        (table, cell): (&'static str, impl Into<String>),
        stated: f64,
        computed: f64,
        text: impl Fn(f64) -> String,
        why: impl Into<String>,
    ) {
        let agree = (stated - computed).abs() <= stated.abs() * ROUNDED;
        let verdict = if agree { Verdict::Follows } else { Verdict::Differs };
        let (stated, computed) = (text(stated), text(computed));
        self.0.push(Cell { table, cell: cell.into(), stated, computed, verdict, why: why.into() });
    }

    /// A number that nothing determines.
    fn open(&mut self, table: &'static str, cell: &str, stated: &str, computed: String, why: &str) {
        let (cell, stated, why) = (cell.to_owned(), stated.to_owned(), why.to_owned());
        self.0.push(Cell { table, cell, stated, computed, verdict: Verdict::Open, why });
    }
}

fn per_minute(events: f64) -> String {
    format!(
        "{} events/min",
        if events >= 1e6 { format!("{:.3} M", events / 1e6) } else { format!("{:.0} k", events / 1e3) }
    )
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn per_day(bytes: f64) -> String {
    format!("{}/day", bytes_text(bytes))
}

fn dollars(amount: f64) -> String {
    format!("${}", money_text(amount))
}

fn devices(cells: &mut Cells) {
    let table = "device profile";
    let rate: f64 = CLASSES.iter().map(|(_, count, rate)| count * rate).sum();
    let count: f64 = CLASSES.iter().map(|(_, count, _)| count).sum();
    cells.check((table, "devices"), 50e3, count, |n| format!("{:.0} k", n / 1e3), "sum of the five classes");
    let largest: Vec<String> = CLASSES
        .iter()
        .filter(|(_, count, rate)| count * rate * 60.0 > 1e6)
        .map(|(name, count, rate)| format!("{name} {:.0} M", count * rate * 60.0 / 1e6))
        .collect();
    cells.check(
        (table, "events of all devices"),
        10e6,
        rate * 60.0,
        per_minute,
        format!("sum of devices x rate: {}. The profile sends three times the stated load", largest.join(", ")),
    );
}

fn flow(cells: &mut Cells) {
    let table = "data flow and reduction";
    let (raw_events, raw_bytes) = FLOW[0];
    // What is left is compared: 95 and 96 % removed are 5 and 4 % left.
    let removed = |left: f64| percent(1.0 - left);
    for ((name, stated_share), (events, bytes)) in
        [("after edge", 0.80), ("after hub", 0.95), ("cloud storage", 0.98)].into_iter().zip(&FLOW[1..])
    {
        cells.check(
            (table, format!("{name}, events")),
            1.0 - stated_share,
            events / raw_events,
            removed,
            format!("{} of {}", per_minute(*events), per_minute(raw_events)),
        );
        cells.check(
            (table, format!("{name}, bytes")),
            1.0 - stated_share,
            bytes / raw_bytes,
            removed,
            format!("{}/min of {}/min", bytes_text(*bytes), bytes_text(raw_bytes)),
        );
    }
    let sizes: Vec<String> = FLOW.iter().map(|(events, bytes)| format!("{:.0} B", bytes / events)).collect();
    cells.check(
        (table, "bytes of an event behind the hub"),
        raw_bytes / raw_events,
        FLOW[2].1 / FLOW[2].0,
        |bytes| format!("{bytes:.0} B"),
        format!("bytes / events by tier: {}; only the hub's tier has another size", sizes.join(", ")),
    );
    cells.check(
        (table, "uploads of each hub"),
        100e6,
        FLOW[2].1 / HUBS,
        |bytes| format!("{}/min", bytes_text(bytes)),
        "the flow says 100 MB/min for each of three hubs, the reduction pipeline 100 MB/min for all",
    );
    cells.check(
        (table, "sites of the topology's hubs"),
        SITES,
        100.0 + 200.0 + 150.0,
        |n| format!("{n:.0}"),
        "100 + 200 + 150 sites are drawn; 550 of the 1,000 have no hub",
    );
    let decisions = 50e3 / raw_events;
    cells.open(
        table,
        "local decisions",
        "50 k/min",
        percent(decisions),
        "an input: the share of raw events that a rule acts on",
    );
}

fn resilience(cells: &mut Cells) {
    let table = "offline resilience";
    let site_raw = FLOW[0].1 * 1_440.0 / SITES;
    let site_edge = FLOW[1].1 * 1_440.0 / SITES;
    cells.check(
        (table, "buffer fill rate, against what leaves the edge"),
        FILL_PER_DAY,
        site_edge,
        per_day,
        format!("500 MB/min over 1,000 sites; raw would be {}. 1.2 GB lies between the two", per_day(site_raw)),
    );
    cells.check(
        (table, "buffer fill rate, against the buffer table"),
        FILL_PER_DAY,
        implied_bytes_per_day(32.0, 24.0),
        per_day,
        "32 GB that last 24 h fill 27 times faster than 1.2 GB a day",
    );
    cells.check(
        (table, "longest offline, target"),
        24.0,
        32.0 * GB / FILL_PER_DAY * 24.0,
        |hours| span_text(hours * 3_600.0),
        "32 GB, the standard buffer, at 1.2 GB a day",
    );
    cells.open(
        table,
        "longest offline, achieved",
        "36 h",
        "1.5 : 1".to_owned(),
        "24 h with a compression of 1.5; no ratio is stated, so it cannot be checked",
    );
    let day = implied_bits_per_s(FILL_PER_DAY / GB, 18.0);
    cells.check(
        (table, "sync of a day at 1.2 GB"),
        18.0,
        FILL_PER_DAY * 8.0 / MOBILE / 60.0,
        |minutes| span_text(minutes * 60.0),
        format!(
            "1.2 GB over 10 Mbit/s take 16 min; 18 min are {}, the link less headers and 4 % of live data",
            bits_text(day)
        ),
    );
    cells.check(
        (table, "sync of a day by the buffer table"),
        18.0,
        32.0 * GB * 8.0 / MOBILE / 60.0,
        |minutes| span_text(minutes * 60.0),
        format!("32 GB in 18 min are {}: 24 times the mobile link", bits_text(implied_bits_per_s(32.0, 18.0))),
    );
    for (cell, stated) in [("events lost", "0 %"), ("duplicates", "0.003 %")] {
        cells.open(table, cell, stated, "0".to_owned(), "not arithmetic: ours are 0 by construction, which tests hold");
    }
}

fn costs(cells: &mut Cells) {
    let table = "resource allocation";
    let rows = [8_000.0, 12_000.0, 5_400.0, 1_500.0, 15_000.0, 25_000.0];
    cells.check((table, "total"), 66_900.0, rows.iter().sum(), dollars, "sum of the six rows");
    cells.check((table, "edge sites"), SITES, 800.0 + 200.0, |n| format!("{n:.0}"), "800 basic + 200 with inference");
    cells.check((table, "hub machines"), 9.0, 3.0 * HUBS, |n| format!("{n:.0}"), "three for each of three hubs");
    for (cell, sum, count) in [
        ("edge (basic), one", rows[0], 800.0),
        ("edge (ML), one", rows[1], 200.0),
        ("hub, one", rows[2], 9.0),
        ("coordinator, one", rows[3], 5.0),
        ("connectivity, one site", rows[5], SITES),
    ] {
        cells.open(table, cell, &dollars(sum), dollars(sum / count), "an input: the price of one in a month");
    }
    let stored = FLOW[3].1 * 1_440.0 * 30.0;
    cells.open(
        table,
        "cloud storage",
        "$15,000",
        format!("{} a month", bytes_text(stored)),
        "50 MB/min for 30 days; no price of a GB and no age of the archive are stated",
    );
    cells.check(
        (table, "total with the links of the bandwidth table"),
        66_900.0,
        rows.iter().sum::<f64>() + 3_000.0 + 1_500.0,
        dollars,
        "hub to cloud and inter-hub are priced in the bandwidth table and missing in the sum; 6.7 %",
    );
}

fn bandwidth(cells: &mut Cells) {
    let table = "bandwidth planning";
    let site = FLOW[1].1 * 8.0 / 60.0 / SITES;
    let fill = FILL_PER_DAY * 8.0 / DAY_S;
    let table_fill = implied_bytes_per_day(32.0, 24.0) * 8.0 / DAY_S;
    cells.check(
        (table, "edge to hub (4G), 10 Mbit/s"),
        0.15,
        site / MOBILE,
        percent,
        format!(
            "500 MB/min of 1,000 sites are {} a site; 1.2 GB/day are {}, 32 GB/day {}",
            bits_text(site),
            percent(fill / MOBILE),
            percent(table_fill / MOBILE)
        ),
    );
    cells.check(
        (table, "edge to hub (fibre), 100 Mbit/s"),
        0.05,
        site / 100e6,
        percent,
        "the same site on ten times the link would be a tenth of the row above, 1.5 %, not a third",
    );
    cells.check(
        (table, "hub to cloud, 1 Gbit/s"),
        0.30,
        FLOW[2].1 * 8.0 / 60.0 / 1e9,
        percent,
        "100 MB/min of one hub; a third of that if 100 MB/min are of all hubs. The hub's configuration has 10 Gbit/s",
    );
    cells.open(table, "inter-hub, 100 Mbit/s", "10 %", String::new(), "no traffic between hubs is stated");
}

fn modes(cells: &mut Cells) {
    let table = "connectivity modes";
    for (name, availability) in
        [("fibre", 0.999), ("4G LTE", 0.95), ("5G", 0.97), ("satellite", 0.90), ("LoRaWAN", 0.85)]
    {
        let offline = (1.0_f64 - availability) * DAY_S;
        cells.open(
            table,
            &format!("{name}, reliability"),
            &percent(availability),
            format!("{} a day", span_text(offline)),
            "an input: the time without this link on an average day",
        );
    }
    cells.check(
        (table, "4G LTE, bandwidth"),
        50e6,
        MOBILE,
        bits_text,
        "50 Mbit/s here, 10 Mbit/s on average in the bandwidth table: peak and mean",
    );
    cells.check((table, "fibre, bandwidth"), 1e9, 100e6, bits_text, "1 Gbit/s here, 100 Mbit/s in the bandwidth table");
    cells.open(
        table,
        "4G with satellite as backup",
        "",
        format!("{} a day", span_text(0.05 * 0.10 * DAY_S)),
        "both away at once, if they fail independently: 0.5 %",
    );
    let lora = 50e3;
    cells.open(
        table,
        "LoRaWAN, live data",
        "50 kbit/s",
        percent(FLOW[1].1 * 8.0 / 60.0 / SITES / lora),
        "what leaves an edge is more than the link carries: for alerts only",
    );
}

fn buffers(cells: &mut Cells) {
    let table = "buffer size and offline duration";
    let standard = BUFFERS[1];
    let fill = implied_bytes_per_day(standard.0, standard.1);
    let pace = implied_bits_per_s(standard.0, standard.3);
    for (gb, hours, price, minutes) in BUFFERS {
        cells.check(
            (table, format!("{gb:.0} GB, offline, by the row of 32 GB")),
            hours,
            gb * GB / fill * 24.0,
            |hours| span_text(hours * 3_600.0),
            format!("{} ({}/h), {} on average", per_day(fill), bytes_text(fill / 24.0), bits_text(fill * 8.0 / DAY_S)),
        );
        cells.check(
            (table, format!("{gb:.0} GB, offline, by the fill rate")),
            hours,
            gb * GB / FILL_PER_DAY * 24.0,
            |hours| span_text(hours * 3_600.0),
            format!(
                "1.2 GB/day; raw at {} would last {}",
                per_day(FLOW[0].1 * 1_440.0 / SITES),
                span_text(gb * GB / (FLOW[0].1 * 1_440.0 / SITES) * DAY_S)
            ),
        );
        cells.check(
            (table, format!("{gb:.0} GB, sync, by the row of 32 GB")),
            minutes,
            gb * GB * 8.0 / pace / 60.0,
            |minutes| span_text(minutes * 60.0),
            format!("at {}; this row's own pace is {}", bits_text(pace), bits_text(implied_bits_per_s(gb, minutes))),
        );
        cells.check(
            (table, format!("{gb:.0} GB, sync, over the mobile link")),
            minutes,
            gb * GB * 8.0 / MOBILE / 60.0,
            |minutes| span_text(minutes * 60.0),
            "10 Mbit/s without headers and live data",
        );
        cells.check(
            (table, format!("{gb:.0} GB, price")),
            price,
            gb * standard.2 / standard.0,
            dollars,
            format!(
                "at the {} a GB of 32 GB; the row's own is {}. Larger disks are cheaper by the GB",
                dollars(standard.2 / standard.0),
                dollars(price / gb)
            ),
        );
    }
    let event = fill / (FLOW[0].0 * 1_440.0 / SITES);
    cells.check(
        (table, "bytes of an event that fill 32 GB in a day"),
        FLOW[0].1 / FLOW[0].0,
        event,
        |bytes| format!("{bytes:.0} B"),
        "32 GB / 14.4 M events of a site and day; raw events are 250 B",
    );
}

fn lessons(cells: &mut Cells) {
    let table = "lessons";
    let fill = implied_bytes_per_day(32.0, 24.0);
    cells.check(
        (table, "8 GB fill within 12 h, by the buffer table"),
        6.0,
        8.0 * GB / fill * 24.0,
        |hours| span_text(hours * 3_600.0),
        "8 GB last 6 h, so they are full in an outage of 12 h",
    );
    cells.check(
        (table, "8 GB fill within 12 h, by the fill rate"),
        12.0,
        8.0 * GB / FILL_PER_DAY * 24.0,
        |hours| span_text(hours * 3_600.0),
        "at 1.2 GB/day 8 GB last 6.7 days: an outage of 12 h would use 600 MB",
    );
    cells.open(
        table,
        "sites with daily disconnections",
        "15 %",
        format!("{} a day", span_text(0.05 * DAY_S)),
        "4G at 95 % is away for this long on an average day at every site, not at 15 % of them",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str) -> Cell {
        let found: Vec<Cell> =
            cells().into_iter().filter(|cell| format!("{}: {}", cell.table, cell.cell) == name).collect();
        let [cell] = found.as_slice() else { panic!("{name}: {} cells", found.len()) };
        cell.clone()
    }

    #[test]
    fn what_the_tables_imply() {
        assert_eq!(implied_bytes_per_day(8.0, 6.0), 32e9);
        assert_eq!(implied_bytes_per_day(512.0, 384.0), 32e9);
        assert_eq!(implied_bits_per_s(32.0, 18.0).round(), 237_037_037.0);
    }

    #[test]
    fn each_number_has_its_verdict() {
        use Verdict::{Differs, Follows, Open};
        let buffer = "buffer size and offline duration";
        for (name, stated, computed, verdict) in [
            ("device profile: devices", "50 k", "50 k", Follows),
            ("device profile: events of all devices", "10.000 M events/min", "30.052 M events/min", Differs),
            ("data flow and reduction: after edge, events", "80.00 %", "80.00 %", Follows),
            ("data flow and reduction: after hub, events", "95.00 %", "95.00 %", Follows),
            ("data flow and reduction: after hub, bytes", "95.00 %", "96.00 %", Differs),
            ("data flow and reduction: bytes of an event behind the hub", "250 B", "200 B", Differs),
            ("data flow and reduction: uploads of each hub", "100 MB/min", "33.3 MB/min", Differs),
            ("offline resilience: buffer fill rate, against what leaves the edge", "1.2 GB/day", "720 MB/day", Differs),
            ("offline resilience: buffer fill rate, against the buffer table", "1.2 GB/day", "32 GB/day", Differs),
            ("offline resilience: longest offline, target", "24 h", "26.7 d", Differs),
            ("offline resilience: longest offline, achieved", "36 h", "1.5 : 1", Open),
            ("offline resilience: sync of a day at 1.2 GB", "18 min", "16 min", Differs),
            ("offline resilience: sync of a day by the buffer table", "18 min", "7.11 h", Differs),
            ("resource allocation: total", "$66,900", "$66,900", Follows),
            ("bandwidth planning: edge to hub (4G), 10 Mbit/s", "15.00 %", "0.67 %", Differs),
            ("bandwidth planning: edge to hub (fibre), 100 Mbit/s", "5.00 %", "0.07 %", Differs),
            ("bandwidth planning: hub to cloud, 1 Gbit/s", "30.00 %", "1.33 %", Differs),
            (&format!("{buffer}: 8 GB, offline, by the row of 32 GB"), "6 h", "6 h", Follows),
            (&format!("{buffer}: 512 GB, offline, by the row of 32 GB"), "16 d", "16 d", Follows),
            (&format!("{buffer}: 32 GB, offline, by the fill rate"), "24 h", "26.7 d", Differs),
            (&format!("{buffer}: 8 GB, sync, by the row of 32 GB"), "5 min", "4.5 min", Differs),
            (&format!("{buffer}: 128 GB, sync, by the row of 32 GB"), "1.2 h", "1.2 h", Follows),
            (&format!("{buffer}: 32 GB, sync, over the mobile link"), "18 min", "7.11 h", Differs),
            (&format!("{buffer}: 8 GB, price"), "$20", "$12.50", Differs),
            (&format!("{buffer}: bytes of an event that fill 32 GB in a day"), "250 B", "2222 B", Differs),
            ("lessons: 8 GB fill within 12 h, by the buffer table", "6 h", "6 h", Follows),
            ("lessons: 8 GB fill within 12 h, by the fill rate", "12 h", "6.67 d", Differs),
        ] {
            let cell = cell(name);
            assert_eq!(
                (cell.stated.as_str(), cell.computed.as_str(), cell.verdict),
                (stated, computed, verdict),
                "{name}"
            );
            assert!(!cell.why.is_empty(), "{name}");
        }
    }
}
