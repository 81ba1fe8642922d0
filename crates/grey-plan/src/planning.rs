//! From a fleet to its plan.

use grey_model::Lane;
use serde::Serialize;

use crate::buffer::Buffer;
use crate::fleet::{Disk, Fleet, Group, Link};
use crate::{DAY_S, GB, MONTH_S, bits_text, bytes_text, span_text};

/// What blocks add to their events: headers, accounts, the log's records and its part of a last segment.
const STORED: f64 = 1.03;
/// What the protocol adds to blocks on the wire: frames, acknowledgements, heartbeats.
const SENT: f64 = 1.01;
/// Months over which a disk is paid.
const DISK_MONTHS: f64 = 36.0;

/// A fleet's plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Groups, as in the fleet.
    pub groups: Vec<GroupPlan>,
    /// Events a second of all sites, and their bytes a day, as devices send them.
    pub raw: Flow,
    /// What all sites send up.
    pub sent: Flow,
    /// What the shared parts cost in a month, by name.
    pub shared: Vec<(String, f64)>,
    /// Everything, a month.
    pub price_per_month: f64,
    /// What prices are in.
    pub currency: String,
}

/// The plan of one group; figures are one site's unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupPlan {
    /// Its name.
    pub name: String,
    /// Its sites.
    pub sites: u64,
    /// What devices send.
    pub raw: Flow,
    /// What goes up, as it is encoded.
    pub sent: Flow,
    /// What goes up, bytes a day by lane: critical, normal, bulk.
    pub sent_bytes_per_day_by_lane: [f64; 3],
    /// The outbox that the group has.
    pub buffer: Buffer,
    /// Bytes that the longest outage needs so that nothing is lost.
    pub buffer_bytes_needed: f64,
    /// The smallest disk that can be bought for that.
    pub disk_bytes: Option<f64>,
    /// Outages, longest last, and how long a link takes to make up for them.
    pub outages: Vec<Outage>,
    /// What the links carry.
    pub links: Vec<Bandwidth>,
    /// Share of the time in which no link is there, by their availability.
    pub offline: f64,
    /// What one site costs in a month.
    pub cost: Cost,
    /// What does not go together.
    pub warnings: Vec<String>,
}

/// Events and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Flow {
    /// Events a second.
    pub events_per_s: f64,
    /// Bytes a day.
    pub bytes_per_day: f64,
}

/// An outage and what comes after it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outage {
    /// Which one: `median`, `p99`, `longest`, `full buffer`.
    pub name: String,
    /// Its length, seconds.
    pub seconds: f64,
    /// What waits at its end, bytes.
    pub backlog_bytes: f64,
    /// Time to drain over each link.
    pub drains: Vec<Drain>,
}

/// How long a link takes for a backlog while live data goes on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drain {
    /// The link.
    pub link: String,
    /// Seconds; none if it never ends.
    pub seconds: Option<f64>,
    /// The day's budget, not the link's rate, sets the pace.
    pub by_budget: bool,
}

/// What one link carries for one site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bandwidth {
    /// The link.
    pub link: String,
    /// Share of the data that it carries.
    pub share: f64,
    /// Payload that it can carry, bits a second.
    pub capacity_bits_per_s: f64,
    /// What live data takes while the link is in use, bits a second.
    pub live_bits_per_s: f64,
    /// Live data's share of the capacity.
    pub utilisation: f64,
    /// Bytes of a month.
    pub bytes_per_month: f64,
    /// What one connection without BBR would reach under the link's loss, bits a second.
    pub loss_bound_bits_per_s: f64,
}

/// Cost of one site in a month.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Cost {
    /// The machine.
    pub hardware: f64,
    /// The disk that is needed, paid over 36 months.
    pub disk: f64,
    /// Links: what they cost by themselves.
    pub connection: f64,
    /// Links: what is beyond the volume included.
    pub volume: f64,
}

impl Cost {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.hardware + self.disk + self.connection + self.volume
    }
}

/// Computes a fleet's plan.
pub fn plan(fleet: &Fleet) -> Plan {
    let groups: Vec<GroupPlan> = fleet.groups.iter().map(|group| plan_group(group, &fleet.disks)).collect();
    let sum = |of: &dyn Fn(&GroupPlan) -> f64| groups.iter().map(|group| group.sites as f64 * of(group)).sum();
    let shared: Vec<(String, f64)> =
        fleet.shared.iter().map(|part| (part.name.clone(), part.count * part.price_per_month)).collect();
    let sites: f64 = sum(&|group| group.cost.total());
    let price_per_month = sites + shared.iter().map(|(_, price)| price).sum::<f64>();
    Plan {
        raw: Flow { events_per_s: sum(&|g| g.raw.events_per_s), bytes_per_day: sum(&|g| g.raw.bytes_per_day) },
        sent: Flow { events_per_s: sum(&|g| g.sent.events_per_s), bytes_per_day: sum(&|g| g.sent.bytes_per_day) },
        groups,
        shared,
        price_per_month,
        currency: fleet.currency.clone(),
    }
}

/// Computes the plan of one group, given the disks that can be bought.
pub fn plan_group(group: &Group, disks: &[Disk]) -> GroupPlan {
    let mut raw = Flow::default();
    let mut sent = Flow::default();
    let mut by_lane = [0.0; 3];
    let mut sheddable = 0.0;
    for source in &group.sources {
        let events_per_s = source.count as f64 * source.events_per_s;
        if !source.derived {
            raw.events_per_s += events_per_s;
            raw.bytes_per_day += events_per_s * source.raw_bytes * DAY_S;
        }
        let bytes_per_day = source.sent_events_per_s() * source.encoded_bytes * STORED * DAY_S;
        sent.events_per_s += source.sent_events_per_s();
        sent.bytes_per_day += bytes_per_day;
        by_lane[lane_index(source.lane)] += bytes_per_day;
        if source.sheddable {
            sheddable += bytes_per_day;
        }
    }
    let fill = sent.bytes_per_day / DAY_S;
    let sheddable = if sent.bytes_per_day > 0.0 { sheddable / sent.bytes_per_day } else { 0.0 };
    let buffer = Buffer::new(group.buffer_bytes, fill, sheddable);
    let buffer_bytes_needed = Buffer::bytes_for(group.outages.longest_s, fill);
    let disk = disks.iter().filter(|disk| disk.bytes >= buffer_bytes_needed).min_by(|a, b| a.bytes.total_cmp(&b.bytes));
    let links = bandwidths(group, fill * SENT);
    let offline = group.links.iter().map(|link| 1.0 - link.availability).product();
    let mut planned = GroupPlan {
        name: group.name.clone(),
        sites: group.sites,
        raw,
        sent,
        sent_bytes_per_day_by_lane: by_lane,
        buffer,
        buffer_bytes_needed,
        disk_bytes: disk.map(|disk| disk.bytes),
        outages: outages(group, &buffer),
        offline,
        cost: cost(group, disk, &links),
        links,
        warnings: Vec::new(),
    };
    planned.warnings = warnings(group, disks, &planned);
    planned
}

fn lane_index(lane: Lane) -> usize {
    Lane::ALL.iter().position(|known| *known == lane).unwrap_or(0)
}

/// What each link carries of `live` bytes a second: the first what it is there
/// for, the next what remains, and the first what waited while none was there.
fn bandwidths(group: &Group, live: f64) -> Vec<Bandwidth> {
    let mut left = 1.0;
    let mut shares: Vec<f64> = Vec::new();
    for link in &group.links {
        shares.push(left * link.availability);
        left *= 1.0 - link.availability;
    }
    if let Some(first) = shares.first_mut() {
        *first += left;
    }
    let used = |(link, share): (&Link, &f64)| {
        let capacity = link.capacity_bytes_per_s();
        Bandwidth {
            link: link.name.clone(),
            share: *share,
            capacity_bits_per_s: capacity * 8.0,
            live_bits_per_s: live * 8.0,
            utilisation: if capacity > 0.0 { live / capacity } else { f64::INFINITY },
            bytes_per_month: live * share * MONTH_S,
            loss_bound_bits_per_s: link.loss_bound_bits_per_s(),
        }
    };
    group.links.iter().zip(&shares).map(used).collect()
}

fn outages(group: &Group, buffer: &Buffer) -> Vec<Outage> {
    let Some(fill) = Some(buffer.fill_bytes_per_s).filter(|fill| *fill > 0.0) else { return Vec::new() };
    let lengths = [
        ("median", group.outages.median_s),
        ("p99", group.outages.p99_s),
        ("longest", group.outages.longest_s),
        ("full buffer", buffer.plain_s),
    ];
    let outage = |(name, seconds): (&str, f64)| {
        let backlog_bytes = (fill * seconds).min(buffer.bytes);
        let drains = group.links.iter().map(|link| drain(link, backlog_bytes * SENT, fill * SENT)).collect();
        Outage { name: name.to_owned(), seconds, backlog_bytes, drains }
    };
    lengths.into_iter().filter(|(_, seconds)| *seconds > 0.0).map(outage).collect()
}

/// Time for `backlog` bytes beside `live` bytes a second.
fn drain(link: &Link, backlog: f64, live: f64) -> Drain {
    let capacity = link.capacity_bytes_per_s();
    let at_link = (capacity > live).then(|| backlog / (capacity - live));
    let months = link.budget.bytes_per_month.map(|bytes| bytes * DAY_S / MONTH_S);
    let per_day = [link.budget.bytes_per_day, months].into_iter().flatten().fold(f64::INFINITY, f64::min);
    // What one day's budget covers goes at the link's pace; more of it waits for the next days.
    let left_of_day = per_day - live * DAY_S;
    let (seconds, by_budget) = match at_link {
        Some(seconds) if backlog <= left_of_day => (Some(seconds), false),
        Some(seconds) if left_of_day > 0.0 => (Some(seconds.max(backlog / left_of_day * DAY_S)), true),
        Some(_) => (None, true),
        None => (None, false),
    };
    Drain { link: link.name.clone(), seconds, by_budget }
}

fn cost(group: &Group, disk: Option<&Disk>, links: &[Bandwidth]) -> Cost {
    let volume = |(link, used): (&Link, &Bandwidth)| {
        (used.bytes_per_month - link.included_bytes).max(0.0) / GB * link.price_per_gb
    };
    Cost {
        hardware: group.hardware.price_per_month,
        disk: disk.map_or(0.0, |disk| disk.price / DISK_MONTHS),
        connection: group.links.iter().map(|link| link.price_per_month).sum(),
        volume: group.links.iter().zip(links).map(volume).sum(),
    }
}

/// What does not go together in a group's plan.
fn warnings(group: &Group, disks: &[Disk], planned: &GroupPlan) -> Vec<String> {
    let mut warnings = Vec::new();
    let buffer = &planned.buffer;
    let outages = [("longest outage", group.outages.longest_s), ("p99 outage", group.outages.p99_s)];
    if let Some((name, seconds)) = outages.into_iter().rfind(|(_, seconds)| *seconds > buffer.critical_s) {
        warnings.push(format!(
            "a buffer of {} lasts {} without loss, the {name} {}: give it {}",
            bytes_text(buffer.bytes),
            span_text(buffer.critical_s),
            span_text(seconds),
            bytes_text(Buffer::bytes_for(group.outages.longest_s, buffer.fill_bytes_per_s)),
        ));
    }
    if planned.disk_bytes.is_none() && !disks.is_empty() {
        warnings
            .push(format!("no disk of the list holds the {} that are needed", bytes_text(planned.buffer_bytes_needed)));
    }
    let between_s = if group.outages.per_day > 0.0 { DAY_S / group.outages.per_day } else { f64::INFINITY };
    for outage in planned.outages.iter().filter(|outage| outage.name == "p99") {
        for drain in &outage.drains {
            match drain.seconds {
                Some(seconds) if seconds > between_s => warnings.push(format!(
                    "{}: a p99 outage takes {} to drain, and the next comes after {}",
                    drain.link,
                    span_text(seconds),
                    span_text(between_s)
                )),
                None if drain.by_budget => {
                    warnings
                        .push(format!("{}: live data alone uses up the budget, a backlog never drains", drain.link));
                }
                _ => {}
            }
        }
    }
    for (link, used) in group.links.iter().zip(&planned.links) {
        if used.utilisation >= 1.0 {
            warnings.push(format!(
                "{}: live data needs {}, the link carries {}",
                link.name,
                bits_text(used.live_bits_per_s),
                bits_text(used.capacity_bits_per_s)
            ));
        }
        for (what, budget, needed) in [
            ("day", link.budget.bytes_per_day, used.live_bits_per_s / 8.0 * DAY_S),
            ("month", link.budget.bytes_per_month, used.bytes_per_month),
        ] {
            if let Some(budget) = budget.filter(|budget| needed > *budget) {
                let (needed, budget) = (bytes_text(needed), bytes_text(budget));
                warnings.push(format!("{}: {needed} a {what} are over the budget of {budget}", link.name));
            }
        }
    }
    if group.links.is_empty() {
        warnings.push("there is no link: nothing ever drains".to_owned());
    }
    if let Some(most) = group.hardware.events_per_s_max.filter(|most| planned.raw.events_per_s > *most) {
        let rate = planned.raw.events_per_s;
        warnings
            .push(format!("{rate:.0} events/s are more than the {most:.0} that {} is bought for", group.hardware.name));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::{Budget, Hardware, Outages, Source};

    fn link(name: &str, mbit: f64, availability: f64) -> Link {
        Link {
            name: name.into(),
            bits_per_s: mbit * 1e6,
            rtt_s: 0.05,
            loss: 0.0,
            availability,
            price_per_month: 10.0,
            price_per_gb: 2.0,
            included_bytes: GB,
            budget: Budget::default(),
        }
    }

    /// A site that fills its buffer with 1 MB/s before overhead.
    fn group(links: Vec<Link>) -> Group {
        let source = Source {
            name: "readings".into(),
            count: 10,
            events_per_s: 1_000.0,
            raw_bytes: 250.0,
            encoded_bytes: 100.0,
            forwarded: 1.0,
            derived: false,
            lane: Lane::Bulk,
            sheddable: true,
        };
        Group {
            name: "g".into(),
            sites: 3,
            ids: Vec::new(),
            sources: vec![source],
            links,
            outages: Outages { per_day: 1.0, median_s: 60.0, p99_s: 3_600.0, longest_s: DAY_S },
            buffer_bytes: 200.0 * GB,
            hardware: Hardware { name: "m".into(), price_per_month: 5.0, events_per_s_max: Some(20_000.0) },
        }
    }

    fn drain_of<'a>(planned: &'a GroupPlan, outage: &str) -> &'a Drain {
        &planned.outages.iter().find(|o| o.name == outage).unwrap().drains[0]
    }

    #[test]
    fn a_backlog_drains_with_what_live_data_leaves() {
        let planned = plan_group(&group(vec![link("a", 100.0, 1.0)]), &[]);
        let (capacity, live) = (100e6 / 8.0 * 1_448.0 / 1_500.0, 1.03e6 * 1.01);
        let seconds = drain_of(&planned, "p99").seconds.unwrap();
        assert!((seconds - 3_600.0 * live / (capacity - live)).abs() < 1e-6);
        assert_eq!(planned.warnings, Vec::<String>::new());
        assert!((planned.raw.bytes_per_day - 10_000.0 * 250.0 * DAY_S).abs() < 1.0);
    }

    #[test]
    fn a_link_that_is_too_slow_never_drains() {
        let planned = plan_group(&group(vec![link("a", 8.0, 1.0)]), &[]);
        assert_eq!(drain_of(&planned, "median").seconds, None);
        assert!(
            planned
                .warnings
                .iter()
                .any(|w| w.starts_with("a: live data needs 8.32 Mbit/s, the link carries 7.72 Mbit/s"))
        );
    }

    #[test]
    fn a_budget_sets_the_pace_of_what_it_does_not_cover() {
        let mut slow = link("a", 100.0, 1.0);
        let live = 1.03e6 * 1.01 * DAY_S;
        slow.budget.bytes_per_day = Some(live * 1.5);
        let planned = plan_group(&group(vec![slow.clone()]), &[]);
        // Half a day's live data is left of a day's budget: an hour of backlog fits, a day takes two.
        assert!(!drain_of(&planned, "p99").by_budget);
        let longest = drain_of(&planned, "longest");
        assert!(longest.by_budget && (longest.seconds.unwrap() / DAY_S - 2.0).abs() < 1e-9);
        slow.budget = Budget { bytes_per_day: Some(live * 0.5), bytes_per_month: Some(live) };
        let planned = plan_group(&group(vec![slow]), &[]);
        assert_eq!(drain_of(&planned, "p99").seconds, None);
        let all = planned.warnings.join("\n");
        for part in ["uses up the budget", "a day are over the budget", "a month are over the budget"] {
            assert!(all.contains(part), "{part} is not in\n{all}");
        }
    }

    #[test]
    fn a_buffer_and_a_machine_that_are_too_small_are_told() {
        let mut small = group(vec![link("a", 100.0, 1.0)]);
        small.buffer_bytes = GB;
        small.hardware.events_per_s_max = Some(100.0);
        let disks = [Disk { bytes: 50.0 * GB, price: 90.0 }, Disk { bytes: 500.0 * GB, price: 360.0 }];
        let planned = plan_group(&small, &disks);
        assert_eq!((planned.disk_bytes, planned.cost.disk), (Some(500.0 * GB), 10.0));
        let all = planned.warnings.join("\n");
        assert!(
            all.contains("a buffer of 1 GB lasts 15.1 min without loss, the p99 outage 1 h: give it 95.2 GB"),
            "{all}"
        );
        assert!(all.contains("10000 events/s are more than the 100"), "{all}");
        assert!(plan_group(&small, &disks[..1]).warnings.iter().any(|w| w.contains("no disk of the list")));
    }

    #[test]
    fn a_fleet_costs_what_its_parts_cost() {
        let fleet = Fleet {
            groups: vec![group(vec![link("a", 100.0, 0.9), link("b", 50.0, 0.8)])],
            shared: vec![crate::fleet::Shared { name: "hubs".into(), count: 9.0, price_per_month: 600.0 }],
            disks: Vec::new(),
            currency: "EUR".into(),
        };
        let planned = plan(&fleet);
        let [a, b] = planned.groups[0].links.as_slice() else { panic!() };
        // 8 % of the time the second carries it; 2 % nobody does, and the first makes up for it.
        assert!((a.share - 0.92).abs() < 1e-12 && (b.share - 0.08).abs() < 1e-12);
        assert!((planned.groups[0].offline - 0.02).abs() < 1e-12);
        let volume = |share: f64| (1.03e6 * 1.01 * MONTH_S * share / GB - 1.0) * 2.0;
        let site = 5.0 + 20.0 + volume(0.92) + volume(0.08);
        assert!((planned.price_per_month - (3.0 * site + 5_400.0)).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn more_of_a_link_never_drains_slower(mbit in 9.0..1e4, more in 1.0..10.0_f64) {
            let slow = plan_group(&group(vec![link("a", mbit, 1.0)]), &[]);
            let fast = plan_group(&group(vec![link("a", mbit * more, 1.0)]), &[]);
            prop_assert!(drain_of(&fast, "p99").seconds <= drain_of(&slow, "p99").seconds);
        }

        #[test]
        fn links_carry_everything(a in 0.0..=1.0, b in 0.0..=1.0) {
            let planned = plan_group(&group(vec![link("a", 100.0, a), link("b", 10.0, b)]), &[]);
            let shares: f64 = planned.links.iter().map(|used| used.share).sum();
            prop_assert!((shares - 1.0).abs() < 1e-9);
        }
    }
}
