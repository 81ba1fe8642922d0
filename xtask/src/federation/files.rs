//! The configuration files of a federation on one machine.

use std::net::SocketAddr;

use super::{Member, SitePlan};

/// What a site sends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forward {
    /// Every reading.
    Raw,
    /// Aggregates, and what a rule flags.
    Aggregates,
}

impl Forward {
    /// As the configuration spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Aggregates => "aggregates",
        }
    }
}

/// The file of one edge agent.
pub(crate) fn edge(site: &SitePlan, hub: &[Member], http: SocketAddr, mqtt: SocketAddr) -> String {
    let addresses: Vec<String> = hub.iter().map(|member| format!("\"{}\"", member.dialled)).collect();
    format!(
        r#"edge:
  site_id: {name}
  grey:
    mode: edge
    parent_hub: hub-demo
  connectivity:
    hub_addresses: [{addresses}]
    sync_interval: 1s
  forward: {forward}
  ingest:
    mqtt:
      listen: "{mqtt}"
  api:
    listen: "{http}"
  local_processing:
    enabled: true
    rules:
      - type: threshold
        condition: "temperature > 85°C"
        action: local_alert
      - type: aggregate
        interval: 10s
        fields: [avg, min, max, count]
"#,
        name = site.name,
        addresses = addresses.join(", "),
        forward = site.forward.as_str(),
    )
}

/// The file of one hub node. It names the others' sync addresses as a site
/// reaches them, so that a redirect to the leader goes over the wire too.
pub(crate) fn hub(members: &[Member], own: u64, coordinator: SocketAddr) -> String {
    let mut text = format!(
        r#"hub:
  name: hub-demo
  location: here
  grey:
    mode: hub
    parent_cloud: cloud-demo
  connectivity:
    coordinator_addresses: ["{coordinator}"]
    upstream_batch_interval: 1s
  site_management:
    heartbeat_interval: 1s
    offline_threshold: 5s
  consensus:
    type: raft
    nodes: {nodes}
    election_timeout: 500ms
    members:
"#,
        nodes = members.len(),
    );
    for member in members {
        let sync = if member.id == own { member.sync } else { member.dialled };
        text.push_str(&member_line(member, sync));
    }
    text
}

/// The coordinator's file.
pub(crate) fn coordinator(member: &Member) -> String {
    let mut text = "cloud:\n  name: cloud-demo\n  consensus:\n    members:\n".to_owned();
    text.push_str(&member_line(member, member.sync));
    text
}

fn member_line(member: &Member, sync: SocketAddr) -> String {
    let Member { id, raft, http, .. } = member;
    format!("      - {{ id: {id}, raft: \"{raft}\", sync: \"{sync}\", http: \"{http}\" }}\n")
}
