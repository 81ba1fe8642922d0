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
    backoff: {{ max: 1s }}
  heartbeat_interval: 1s
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
{more}"#,
        more = site.more,
        name = site.name,
        addresses = addresses.join(", "),
        forward = site.forward.as_str(),
    )
}

/// The file of one hub node. Members are listed as sites reach them, so that a
/// redirect to the leader goes over the wire too.
pub(crate) fn hub(members: &[Member], own: &Member, coordinator: SocketAddr) -> String {
    let mut text = format!(
        r#"hub:
  name: hub-demo
  location: here
  grey:
    mode: hub
    parent_cloud: cloud-demo
  connectivity:
    coordinator_addresses: ["{coordinator}"]
    backoff: {{ max: 1s }}
  heartbeat_interval: 1s
  site_management:
    heartbeat_interval: 1s
    offline_threshold: 5s
  sync:
    listen: "{sync}"
  consensus:
    type: raft
    nodes: {nodes}
    election_timeout: 500ms
    members:
"#,
        sync = own.sync,
        nodes = members.len(),
    );
    text.extend(members.iter().map(member_line));
    text
}

/// The coordinator's file.
pub(crate) fn coordinator(member: &Member) -> String {
    let sync = member.sync;
    let head = format!("cloud:\n  name: cloud-demo\n  sync:\n    listen: \"{sync}\"\n  consensus:\n    members:\n");
    head + &member_line(member)
}

fn member_line(member: &Member) -> String {
    let Member { id, raft, dialled, http, .. } = member;
    format!("      - {{ id: {id}, raft: \"{raft}\", sync: \"{dialled}\", http: \"{http}\" }}\n")
}
