//! The description of a fleet as a file: YAML or TOML with the first key `plan`.

use grey_config::{Bandwidth, Check, Duration, Inactive, Size, TierConfig, section, tier_config};
use grey_model::Lane;
use grey_plan::{Budget, Disk, Fleet, Group, Hardware, Link, Outages, Shared, Source};

section! {
    /// A fleet.
    pub struct FleetFile {
        /// What prices are in.
        pub currency: String = "USD".to_owned(),
        /// Ways to the hub.
        pub links: Vec<LinkFile>,
        /// Disks that can be bought.
        pub disks: Vec<DiskFile> = Vec::new(),
        /// What is paid once for all sites.
        pub shared: Vec<SharedFile> = Vec::new(),
        /// Sites by group.
        pub groups: Vec<GroupFile>,
    }
}

section! {
    /// A way to the hub.
    pub struct LinkFile {
        /// Its name.
        pub name: String,
        /// Its rate upward.
        pub rate: Bandwidth,
        /// Round trip.
        pub rtt: Duration = Duration::from_millis(50),
        /// Packets of a hundred that are lost, 0 to 50.
        pub loss_percent: f64 = 0.0,
        /// Hours of a hundred in which it is there, 0 to 100.
        pub availability_percent: f64 = 100.0,
        /// Price of one site's connection in a month.
        pub price_per_month: f64 = 0.0,
        /// Price of a GB beyond those included.
        pub price_per_gb: f64 = 0.0,
        /// Volume of a month that the fixed price covers.
        pub included: Size = Size::from_mb(0),
        /// What may be sent in a day.
        pub budget_per_day: Option<Size> = None,
        /// What may be sent in a month.
        pub budget_per_month: Option<Size> = None,
    }
}

section! {
    /// A disk that can be bought.
    pub struct DiskFile {
        /// What of it the outbox may use.
        pub size: Size,
        /// Its price.
        pub price: f64,
    }
}

section! {
    /// Something that is paid once for all sites.
    pub struct SharedFile {
        /// What it is.
        pub name: String,
        /// How many.
        pub count: f64 = 1.0,
        /// Price of one in a month.
        pub price_per_month: f64,
    }
}

section! {
    /// Sites that are alike.
    pub struct GroupFile {
        /// Its name.
        pub name: String,
        /// How many sites.
        pub sites: u64,
        /// Ids of its sites, * for any text; none: every site.
        pub ids: Vec<String> = Vec::new(),
        /// Names of its links in the order in which they are used.
        pub links: Vec<String>,
        /// The bound of the outbox, `queue.max_bytes`.
        pub buffer: Size,
        /// When no link is there.
        pub outages: OutagesFile,
        /// The machine.
        pub hardware: HardwareFile = HardwareFile::default(),
        /// What devices and rules send.
        pub sources: Vec<SourceFile>,
    }
}

section! {
    /// When no link is there.
    pub struct OutagesFile {
        /// How many in a day.
        pub per_day: f64,
        /// Half of them are shorter.
        pub median: Duration,
        /// 99 of 100 are shorter.
        pub p99: Duration,
        /// The longest that is to be survived without loss.
        pub longest: Duration,
    }
}

section! {
    /// A site's machine.
    pub struct HardwareFile {
        /// Its name.
        pub name: String = "machine".to_owned(),
        /// Its price in a month.
        pub price_per_month: f64 = 0.0,
        /// Events a second that it is bought for.
        pub events_per_s_max: Option<f64> = None,
    }
}

section! {
    /// Devices of one class, or what rules make.
    pub struct SourceFile {
        /// Its name.
        pub name: String,
        /// How many at one site.
        pub count: u64,
        /// Time between two events of one of them; this or `rate_hz`.
        pub every: Option<Duration> = None,
        /// Events a second of one of them; this or `every`.
        pub rate_hz: Option<f64> = None,
        /// Bytes of one event as it is sent to the site.
        pub raw_bytes: f64 = 250.0,
        /// Bytes of one event in a block.
        pub encoded_bytes: f64 = 4.0,
        /// Events of a hundred that go up.
        pub forward_percent: f64 = 100.0,
        /// Made at the site, by rules.
        pub derived: bool = false,
        /// The lane of what goes up.
        pub lane: Lane = Lane::Bulk,
        /// Whether the overflow ladder may thin it and roll it up. Default: readings of the bulk lane.
        pub sheddable: Option<bool> = None,
    }
}

tier_config!(FleetFile);

/// Most entries of a list.
const ENTRIES_MAX: usize = 1_000;
/// Most of anything that is counted or priced, so that sums stay finite.
const AMOUNT_MAX: f64 = 1e12;

impl TierConfig for FleetFile {
    const ROOT: &'static str = "plan";
    const LIVE: &'static [&'static str] = &[];

    fn check(&self, check: &mut Check<'_>) {
        let lengths = [("links", self.links.len()), ("disks", self.disks.len()), ("shared", self.shared.len())];
        for (key, length) in lengths.into_iter().chain([("groups", self.groups.len())]) {
            check.within(&format!("plan.{key}"), &length, 0, ENTRIES_MAX);
        }
        if self.groups.is_empty() {
            check.reject("plan.groups", "there is no group", "one or more");
        }
        for (n, link) in self.links.iter().enumerate() {
            let key = |name: &str| format!("plan.links[{n}].{name}");
            check.within(&key("loss_percent"), &link.loss_percent, 0.0, 50.0);
            check.within(&key("availability_percent"), &link.availability_percent, 0.0, 100.0);
            check.within(&key("price_per_month"), &link.price_per_month, 0.0, AMOUNT_MAX);
            check.within(&key("price_per_gb"), &link.price_per_gb, 0.0, AMOUNT_MAX);
            if self.links[..n].iter().any(|other| other.name == link.name) {
                check.reject(&key("name"), format!("{:?} is there twice", link.name), "each name once");
            }
        }
        for (n, disk) in self.disks.iter().enumerate() {
            check.within(&format!("plan.disks[{n}].price"), &disk.price, 0.0, AMOUNT_MAX);
        }
        for (n, shared) in self.shared.iter().enumerate() {
            check.within(&format!("plan.shared[{n}].count"), &shared.count, 0.0, AMOUNT_MAX);
            check.within(&format!("plan.shared[{n}].price_per_month"), &shared.price_per_month, 0.0, AMOUNT_MAX);
        }
        for (n, group) in self.groups.iter().enumerate() {
            self.check_group(&format!("plan.groups[{n}]"), group, check);
        }
    }

    fn inactive(&self) -> Vec<Inactive> {
        Vec::new()
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

impl FleetFile {
    fn check_group(&self, at: &str, group: &GroupFile, check: &mut Check<'_>) {
        check.within(&format!("{at}.sites"), &group.sites, 1, 10_000_000);
        check.within(&format!("{at}.sources"), &group.sources.len(), 1, ENTRIES_MAX);
        check.within(&format!("{at}.outages.per_day"), &group.outages.per_day, 0.0, DAY_OUTAGES_MAX);
        check.within(&format!("{at}.hardware.price_per_month"), &group.hardware.price_per_month, 0.0, AMOUNT_MAX);
        let outages = &group.outages;
        check.within(&format!("{at}.outages.p99"), &outages.p99, outages.median, Duration::MAX);
        check.within(&format!("{at}.outages.longest"), &outages.longest, outages.p99, Duration::MAX);
        let known: Vec<&str> = self.links.iter().map(|link| link.name.as_str()).collect();
        for (n, name) in group.links.iter().enumerate().filter(|(_, name)| !known.contains(&name.as_str())) {
            check.reject(&format!("{at}.links[{n}]"), format!("{name:?} is no link"), known.join(", "));
        }
        for (n, source) in group.sources.iter().enumerate() {
            let key = |name: &str| format!("{at}.sources[{n}].{name}");
            check.within(&key("raw_bytes"), &source.raw_bytes, 0.0, AMOUNT_MAX);
            check.within(&key("encoded_bytes"), &source.encoded_bytes, 0.0, AMOUNT_MAX);
            check.within(&key("forward_percent"), &source.forward_percent, 0.0, 100.0);
            check.within(&key("count"), &source.count, 0, 1_000_000_000);
            match (source.every, source.rate_hz) {
                (Some(every), None) => check.within(&key("every"), &every, Duration::from_millis(1), Duration::MAX),
                (None, Some(rate)) => check.within(&key("rate_hz"), &rate, 0.0, 1e9),
                (None, None) => check.reject(&key("every"), "is missing", "every or rate_hz"),
                (Some(_), Some(_)) => check.reject(&key("rate_hz"), "stands beside every", "one of the two"),
            }
        }
    }

    /// The fleet that it describes.
    pub(crate) fn fleet(&self) -> Fleet {
        let links: Vec<Link> = self.links.iter().map(link).collect();
        let group = |file: &GroupFile| Group {
            name: file.name.clone(),
            sites: file.sites,
            ids: file.ids.clone(),
            sources: file.sources.iter().map(source).collect(),
            links: file.links.iter().filter_map(|name| links.iter().find(|l| l.name == *name).cloned()).collect(),
            outages: Outages {
                per_day: file.outages.per_day,
                median_s: seconds(file.outages.median),
                p99_s: seconds(file.outages.p99),
                longest_s: seconds(file.outages.longest),
            },
            buffer_bytes: file.buffer.bytes() as f64,
            hardware: Hardware {
                name: file.hardware.name.clone(),
                price_per_month: file.hardware.price_per_month,
                events_per_s_max: file.hardware.events_per_s_max,
            },
        };
        let shared = |file: &SharedFile| Shared {
            name: file.name.clone(),
            count: file.count,
            price_per_month: file.price_per_month,
        };
        Fleet {
            groups: self.groups.iter().map(group).collect(),
            shared: self.shared.iter().map(shared).collect(),
            disks: self.disks.iter().map(|d| Disk { bytes: d.size.bytes() as f64, price: d.price }).collect(),
            currency: self.currency.clone(),
        }
    }
}

/// A minute of outage and a minute of link in turn.
const DAY_OUTAGES_MAX: f64 = 720.0;

fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1_000.0
}

fn link(file: &LinkFile) -> Link {
    let bytes = |size: Option<Size>| size.map(|size| size.bytes() as f64);
    Link {
        name: file.name.clone(),
        bits_per_s: file.rate.bits_per_second() as f64,
        rtt_s: seconds(file.rtt),
        loss: file.loss_percent / 100.0,
        availability: file.availability_percent / 100.0,
        price_per_month: file.price_per_month,
        price_per_gb: file.price_per_gb,
        included_bytes: file.included.bytes() as f64,
        budget: Budget { bytes_per_day: bytes(file.budget_per_day), bytes_per_month: bytes(file.budget_per_month) },
    }
}

fn source(file: &SourceFile) -> Source {
    let every = file.every.map(|every| 1.0 / seconds(every));
    Source {
        name: file.name.clone(),
        count: file.count,
        events_per_s: every.or(file.rate_hz).unwrap_or(0.0),
        raw_bytes: file.raw_bytes,
        encoded_bytes: file.encoded_bytes,
        forwarded: file.forward_percent / 100.0,
        derived: file.derived,
        lane: file.lane,
        sheddable: file.sheddable.unwrap_or(file.lane == Lane::Bulk && !file.derived),
    }
}
