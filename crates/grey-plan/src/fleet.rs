//! What a fleet is made of, as far as its size matters.

use grey_model::Lane;

/// A fleet: groups of like sites and what they share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fleet {
    /// Sites by group.
    pub groups: Vec<Group>,
    /// What is paid once for all: hubs, coordinators, storage.
    pub shared: Vec<Shared>,
    /// Disks that can be bought, in any order.
    pub disks: Vec<Disk>,
    /// What prices are in; shown behind sums.
    pub currency: String,
}

/// Sites that are alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many sites.
    pub sites: u64,
    /// Ids of its sites, `*` for any text; none stand for every site.
    pub ids: Vec<String>,
    /// What its devices and rules send.
    pub sources: Vec<Source>,
    /// Links in the order in which they are used; the next carries what the ones before it cannot.
    pub links: Vec<Link>,
    /// How often and how long no link is there.
    pub outages: Outages,
    /// Bytes that the outbox may have on disk.
    pub buffer_bytes: f64,
    /// The machine.
    pub hardware: Hardware,
}

/// Devices of one class, or what rules make of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Devices at one site.
    pub count: u64,
    /// Events a second of one device.
    pub events_per_s: f64,
    /// Bytes of one event as the device sends it.
    pub raw_bytes: f64,
    /// Bytes of one event in a block: on disk and on the wire.
    pub encoded_bytes: f64,
    /// Share of its events that go up, 0 to 1.
    pub forwarded: f64,
    /// Made at the site (aggregates, alerts): it goes up, but no device sends it.
    pub derived: bool,
    /// The lane of what goes up.
    pub lane: Lane,
    /// Whether the overflow ladder may thin it and roll it up: a reading in a lane whose policy allows loss.
    pub sheddable: bool,
}

/// A way to the hub.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Bits a second, upward.
    pub bits_per_s: f64,
    /// Round trip, seconds.
    pub rtt_s: f64,
    /// Share of packets that are lost, 0 to below 1.
    pub loss: f64,
    /// Share of the time that it is there, 0 to 1.
    pub availability: f64,
    /// Price of one site's connection in a month.
    pub price_per_month: f64,
    /// Price of a GB beyond those included.
    pub price_per_gb: f64,
    /// Bytes of a month that the fixed price covers.
    pub included_bytes: f64,
    /// What may be sent.
    pub budget: Budget,
}

/// What may be sent over a link.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Bytes of a day.
    pub bytes_per_day: Option<f64>,
    /// Bytes of a month.
    pub bytes_per_month: Option<f64>,
}

/// When a site has no link at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outages {
    /// How many in a day.
    pub per_day: f64,
    /// Half of them are shorter, seconds.
    pub median_s: f64,
    /// 99 of 100 are shorter, seconds.
    pub p99_s: f64,
    /// The longest that the site is to survive, seconds.
    pub longest_s: f64,
}

/// A site's machine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hardware {
    /// Its name.
    pub name: String,
    /// Price in a month.
    pub price_per_month: f64,
    /// Events a second that it is bought for, if that is known.
    pub events_per_s_max: Option<f64>,
}

/// Something that is paid for the fleet as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    /// What it is.
    pub name: String,
    /// How many of it.
    pub count: f64,
    /// Price of one in a month.
    pub price_per_month: f64,
}

/// A disk that can be bought.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disk {
    /// Bytes of it that the outbox may use.
    pub bytes: f64,
    /// Its price.
    pub price: f64,
}

/// Largest part of a packet that is payload: an MTU of 1500 without the headers of IPv4 and of TCP with timestamps.
const PAYLOAD_OF_PACKET: f64 = (1_500.0 - 20.0 - 32.0) / 1_500.0;
/// Bytes of a full segment's payload.
const SEGMENT_BYTES: f64 = 1_448.0;

impl Link {
    /// Bytes a second of payload that it can carry: its rate without headers and without what is lost and sent again.
    pub fn capacity_bytes_per_s(&self) -> f64 {
        self.bits_per_s / 8.0 * PAYLOAD_OF_PACKET * (1.0 - self.loss)
    }

    /// Bits a second that one connection reaches where loss counts as congestion (Reno):
    /// segment / round trip × √(3 / 2·loss), after Mathis, Semke, Mahdavi and Ott, "The macroscopic behavior
    /// of the TCP congestion avoidance algorithm", 1997. BBR is not bound by it.
    pub fn loss_bound_bits_per_s(&self) -> f64 {
        if self.loss <= 0.0 || self.rtt_s <= 0.0 {
            return f64::INFINITY;
        }
        SEGMENT_BYTES * 8.0 / self.rtt_s * (1.5 / self.loss).sqrt()
    }
}

impl Group {
    /// Events a second that devices of one site send.
    pub fn raw_events_per_s(&self) -> f64 {
        self.sources.iter().filter(|source| !source.derived).map(|s| s.count as f64 * s.events_per_s).sum()
    }

    /// True for the id of one of its sites.
    pub fn holds(&self, id: &str) -> bool {
        self.ids.is_empty() || self.ids.iter().any(|pattern| matches(pattern, id))
    }
}

impl Source {
    /// Events a second of one site that go up.
    pub fn sent_events_per_s(&self) -> f64 {
        self.count as f64 * self.events_per_s * self.forwarded
    }
}

/// True when a pattern, in which `*` stands for any text, is the whole of a text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_sites() {
        for (pattern, id, is) in [
            ("factory-*", "factory-7", true),
            ("factory-*", "mine-7", false),
            ("*-us-*", "factory-us-west", true),
            ("a*b*c", "abc", true),
            ("a*b", "a", false),
            ("exact", "exact", true),
        ] {
            assert_eq!(matches(pattern, id), is, "{pattern} {id}");
        }
    }

    #[test]
    fn a_link_carries_its_rate_without_headers_and_loss() {
        let link = Link {
            name: "4g".into(),
            bits_per_s: 10e6,
            rtt_s: 0.05,
            loss: 0.01,
            availability: 1.0,
            price_per_month: 0.0,
            price_per_gb: 0.0,
            included_bytes: 0.0,
            budget: Budget::default(),
        };
        assert!((link.capacity_bytes_per_s() - 1_194_600.0).abs() < 1.0);
        // 231,680 bit/s × 12.2: a connection that takes loss for congestion uses a quarter of the link.
        assert!((link.loss_bound_bits_per_s() / 2.838e6 - 1.0).abs() < 0.001);
    }
}
