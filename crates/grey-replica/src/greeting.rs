//! How a member answers whoever dials it: pure functions of its standing and
//! its state, shared by the network's driver and the simulation.

use grey_consensus::Status;
use grey_ledger::{Replicated, Role};
use grey_model::{Lane, StreamKey};
use grey_net::uplink_server::HelloAnswer;
use grey_sync::{Hello, RejectCode, SiteReport};

use crate::node::Member;
use crate::sites::{Sessions, upward};

/// Bytes of blocks that one sender may have unacknowledged.
const WINDOW_BYTES: u64 = 8 << 20;

/// Where the tier below finds the leader, if it is known.
pub fn leader_address(status: &Status, members: &[Member]) -> Option<String> {
    let leader = status.leader?;
    members.iter().find(|member| member.id == leader).map(|member| member.sync.clone())
}

/// The answer to a hello. `leading` is [`crate::core::ReplicaCore::leading`]: without it this
/// member's coverage may be out of date, and the sender goes to `leader`.
pub fn greet(
    hello: &Hello,
    role: Role,
    leading: Option<u64>,
    leader: Option<String>,
    state: &Replicated,
) -> HelloAnswer {
    let Some(term) = leading else {
        return HelloAnswer::Redirect { address: leader };
    };
    let message = match (role, hello.role) {
        (Role::Forwards, grey_sync::Role::Hub) => "a hub belongs to a coordinator, and this is a hub",
        (Role::Keeps, grey_sync::Role::Edge) => "an edge agent belongs to a hub, and this is a coordinator",
        (Role::Forwards, grey_sync::Role::Edge) | (Role::Keeps, grey_sync::Role::Hub) => {
            let coverage = Lane::ALL.map(|lane| {
                let key = StreamKey { site: hello.sender.clone(), epoch: hello.epoch, lane };
                let ranges = state.coverage(&key).iter().collect();
                (key, ranges)
            });
            return HelloAnswer::Accept { coverage: coverage.into(), window_bytes: WINDOW_BYTES, term };
        }
    };
    HelloAnswer::Reject { code: RejectCode::NotAllowed, message: message.into() }
}

/// What a hub tells the tier above of its sites: what it hears itself, and what its
/// predecessors as leader replicated of the others.
pub fn reports_upward(sessions: &Sessions, state: &Replicated, now_ms: i64) -> Vec<SiteReport> {
    let live = sessions.reports(now_ms);
    let known = state.sites().filter(|r| !live.iter().any(|l| l.site == r.site));
    let all = live.iter().chain(known);
    all.map(|report| upward(report, sessions.state_now(report, now_ms))).collect()
}
