//! Sections and choices that several tiers have in common.

use crate::address::{DialAddress, HostPort, ListenAddress, check_listener};
use crate::decode::Check;
use crate::quantity::Duration;
use crate::{choice, section};

choice! {
    /// When an acknowledgement is given.
    pub enum Durability {
        /// After the data is synced to the medium.
        Fsync = "fsync",
        /// After the data is handed to the operating system: a power cut loses acknowledged events.
        UnsafeNoFsync = "unsafe_no_fsync",
    }
}

choice! {
    /// The engine of keyed state.
    pub enum StorageEngine {
        /// redb: fsyncs every commit.
        Redb = "redb",
        /// sled: faster to write, no guarantee against power loss.
        Sled = "sled",
    }
}

choice! {
    /// How a site or hub is connected.
    pub enum LinkKind {
        /// A fibre that others share.
        Fiber = "fiber",
        /// A fibre of one's own.
        DedicatedFiber = "dedicated-fiber",
        /// A cable.
        Ethernet = "ethernet",
        /// Wireless LAN.
        Wifi = "wifi",
        /// Mobile, fourth generation.
        FourG = "4g-lte",
        /// Mobile, fifth generation.
        FiveG = "5g",
        /// Satellite.
        Satellite = "satellite",
        /// LoRaWAN.
        Lorawan = "lorawan",
    }
}

section! {
    /// The HTTP interface.
    pub struct Api {
        /// Where it listens. Default: the port of the tier on 127.0.0.1, or the member's `http` address.
        pub listen: Option<ListenAddress> = None,
    }
}

section! {
    /// A listener of a group's member.
    pub struct Listener {
        /// Where it listens. Default: the port of the tier on 127.0.0.1, or the member's address.
        pub listen: Option<ListenAddress> = None,
    }
}

section! {
    /// Waiting between attempts to connect.
    pub struct Backoff {
        /// Wait after the first failure.
        pub initial: Duration = Duration::from_millis(100),
        /// Longest wait.
        pub max: Duration = Duration::from_secs(60),
        /// Growth from one wait to the next, 1 to 10.
        pub factor: u32 = 2,
        /// How much a wait varies either way, in percent, so that a fleet does not return in step; 0 to 100.
        pub jitter_percent: u32 = 10,
        /// A session that lasted this long makes the next wait the first again.
        pub stable: Duration = Duration::from_secs(10),
    }
}

impl Backoff {
    /// Rules between the keys of the section at `key_path`.
    pub fn check(&self, key_path: &str, check: &mut Check<'_>) {
        let day = Duration::from_secs(86_400);
        check.within(
            &format!("{key_path}.initial"),
            &self.initial,
            Duration::from_millis(1),
            Duration::from_secs(3600),
        );
        check.within(&format!("{key_path}.max"), &self.max, self.initial, day);
        check.within(&format!("{key_path}.factor"), &self.factor, 1, 10);
        check.within(&format!("{key_path}.jitter_percent"), &self.jitter_percent, 0, 100);
        check.within(&format!("{key_path}.stable"), &self.stable, Duration::default(), day);
    }
}

section! {
    /// How two lanes share a link on which both wait. The critical lane goes first and has no weight.
    pub struct Lanes {
        /// The lane of aggregates and ordinary state.
        pub normal: LaneShare = LaneShare { weight: 4 },
        /// The lane of raw readings.
        pub bulk: LaneShare = LaneShare { weight: 1 },
        /// Share of what is new, in percent, while an older backlog drains, 1 to 99.
        pub live_share: u16 = 50,
    }
}

section! {
    /// One lane's part.
    pub struct LaneShare {
        /// Its share of the bytes relative to the other lane's, 1 to 1000.
        pub weight: u32 = 1,
    }
}

impl Lanes {
    /// Rules of the section at `key_path`.
    pub fn check(&self, key_path: &str, check: &mut Check<'_>) {
        check.within(&format!("{key_path}.normal.weight"), &self.normal.weight, 1, 1_000);
        check.within(&format!("{key_path}.bulk.weight"), &self.bulk.weight, 1, 1_000);
        check.within(&format!("{key_path}.live_share"), &self.live_share, 1, 99);
    }
}

choice! {
    /// How a group agrees.
    pub enum GroupKind {
        /// By Raft; a group of one is a group too.
        Raft = "raft",
    }
}

section! {
    /// One member of a consensus group.
    pub struct Member {
        /// Its number in the group, from 1; `--node-id` picks it.
        pub id: u64,
        /// Where the other members reach it for consensus.
        pub raft: HostPort,
        /// Where the tier below reaches it.
        pub sync: HostPort,
        /// Where its HTTP interface is.
        pub http: HostPort,
    }
}

/// Checks the members of a group: count, unique ids and addresses, dialable, private or declared insecure.
pub fn check_members(
    members: &[Member],
    key_path: &str,
    most: usize,
    insecure: bool,
    root: &str,
    check: &mut Check<'_>,
) {
    if members.len() > most {
        check.reject(key_path, format!("{} members", members.len()), format!("at most {most}"));
    }
    let mut addresses: Vec<(String, String)> = Vec::new();
    for (n, member) in members.iter().enumerate() {
        let at = format!("{key_path}[{n}]");
        if member.id == 0 {
            check.reject(&format!("{at}.id"), "0 is no member's id", "whole numbers from 1");
        }
        if let Some(first) = members[..n].iter().position(|m| m.id == member.id) {
            let problem = format!("id {} is already member {first}'s", member.id);
            check.reject(&format!("{at}.id"), problem, "each id once");
        }
        for (name, address) in [("raft", &member.raft), ("sync", &member.sync), ("http", &member.http)] {
            let key = format!("{at}.{name}");
            if address.port() == 0 {
                if members.len() > 1 {
                    check.reject(
                        &key,
                        format!("{address} cannot be dialled by the other members"),
                        "a port that is not 0",
                    );
                }
            } else if let Some((_, first)) = addresses.iter().find(|(known, _)| *known == address.to_string()) {
                check.reject(&key, format!("{address} is already {first}"), "each address once");
            } else {
                addresses.push((address.to_string(), key.clone()));
            }
            check_listener(check, &key, address.listen(), insecure, root);
        }
    }
}

/// Where one member of a group listens and who the members are.
#[derive(Debug, Clone, PartialEq)]
pub struct ThisNode {
    /// The member's id.
    pub id: u64,
    /// Where it listens for the other members.
    pub raft: ListenAddress,
    /// Where it listens for the tier below.
    pub sync: ListenAddress,
    /// Where its HTTP interface listens.
    pub http: ListenAddress,
    /// Every member, this one too; empty for a group of one that no member list describes.
    pub members: Vec<Member>,
}

/// Why a process does not know which member it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// Several members and no choice.
    #[error("consensus.members lists {0:?}: pick this one with --node-id")]
    Unpicked(Vec<u64>),
    /// The id is none of the members'.
    #[error("node id {id} is not among consensus.members {members:?}")]
    Unknown {
        /// The id asked for.
        id: u64,
        /// The members' ids.
        members: Vec<u64>,
    },
}

/// Picks a member and its listeners. Listeners that are configured win over the member's addresses,
/// which win over `defaults` (raft, sync, http).
pub fn this_node(
    members: &[Member],
    node_id: Option<u64>,
    configured: [Option<ListenAddress>; 3],
    defaults: [ListenAddress; 3],
) -> Result<ThisNode, NodeError> {
    let ids = || members.iter().map(|m| m.id).collect::<Vec<_>>();
    let member = match (members, node_id) {
        ([], _) => None,
        ([only], None) => Some(only),
        (_, None) => return Err(NodeError::Unpicked(ids())),
        (_, Some(id)) => {
            Some(members.iter().find(|m| m.id == id).ok_or_else(|| NodeError::Unknown { id, members: ids() })?)
        }
    };
    let own = member.map(|m| [m.raft.listen(), m.sync.listen(), m.http.listen()]).unwrap_or(defaults);
    let pick = |n: usize| configured[n].unwrap_or(own[n]);
    Ok(ThisNode {
        id: member.map(|m| m.id).or(node_id).unwrap_or(1),
        raft: pick(0),
        sync: pick(1),
        http: pick(2),
        members: members.to_vec(),
    })
}

/// Checks a list of addresses to dial: not more than `most`, none twice.
pub fn check_addresses(addresses: &[DialAddress], key_path: &str, most: usize, check: &mut Check<'_>) {
    if addresses.len() > most {
        check.reject(key_path, format!("{} addresses", addresses.len()), format!("at most {most}"));
    }
    for (n, address) in addresses.iter().enumerate() {
        if addresses[..n].contains(address) {
            check.reject(&format!("{key_path}[{n}]"), format!("{address} is listed twice"), "each address once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, host: &str) -> Member {
        let at = |port: u16| format!("{host}:{port}").parse().unwrap();
        Member { id, raft: at(7101), sync: at(7100), http: at(7180) }
    }

    #[test]
    fn a_process_finds_its_place_in_the_group() {
        let defaults = [ListenAddress::loopback(1), ListenAddress::loopback(2), ListenAddress::loopback(3)];
        let alone = this_node(&[], None, [None; 3], defaults).unwrap();
        assert_eq!((alone.id, alone.raft, alone.members.len()), (1, defaults[0], 0));

        let members = [member(1, "10.0.0.1"), member(2, "hub-2")];
        let two = this_node(&members, Some(2), [None, None, Some(ListenAddress::loopback(9))], defaults).unwrap();
        assert_eq!(two.sync.to_string(), "0.0.0.0:7100");
        assert_eq!((two.http, two.members.len()), (ListenAddress::loopback(9), 2));

        assert!(this_node(&members, None, [None; 3], defaults).unwrap_err().to_string().contains("[1, 2]"));
        assert!(this_node(&members, Some(7), [None; 3], defaults).is_err());
        assert_eq!(this_node(&members[..1], None, [None; 3], defaults).unwrap().id, 1);
    }

    #[test]
    fn groups_are_checked() {
        let errors = |members: &[Member], insecure| {
            let root = crate::Node::empty_map();
            let mut check = Check::new(&root);
            check_members(members, "hub.consensus.members", 7, insecure, "hub", &mut check);
            check.into_errors().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(errors(&[member(1, "127.0.0.1"), member(2, "127.0.0.2")], false), "");
        assert_eq!(errors(&[member(1, "10.0.0.1"), member(2, "hub-2")], true), "");
        assert!(errors(&[member(1, "10.0.0.1")], false).contains("hub.insecure: true"));
        let twins = errors(&[member(1, "127.0.0.1"), member(1, "127.0.0.1")], false);
        assert!(twins.contains("members[1].id: id 1 is already member 0's"), "{twins}");
        assert!(twins.contains("members[1].raft: 127.0.0.1:7101 is already hub.consensus.members[0].raft"), "{twins}");
        assert!(errors(&vec![member(0, "127.0.0.1"); 9], false).contains("at most 7"));
    }
}
