//! All three tiers in one process: an event goes into an edge agent and comes
//! out of the coordinator.
//!
//! `cargo run -p grey-examples --example federation`
//!
//! Groups of one are the smallest federation; `config/hub-group.yaml` shows a
//! hub of three. The uplink alone, over TCP, is shown by
//! `cargo run -p grey-net --example uplink`.

mod http;

use std::net::SocketAddr;
use std::time::Duration;

use grey_config::ListenAddress;
use grey_coordinator::CoordinatorConfig;
use grey_edge::{EdgeConfig, EdgeNode};
use grey_hub::HubConfig;
use grey_model::{Event, SiteId};
use grey_replica::ReplicaNode;
use grey_rules::Forward;

const ANY_PORT: ListenAddress = ListenAddress::loopback(0);

fn address(addresses: &[(&'static str, SocketAddr)], kind: &str) -> Result<SocketAddr, String> {
    let found = addresses.iter().find(|(known, _)| *known == kind);
    found.map(|(_, address)| *address).ok_or_else(|| format!("there is no listener {kind}"))
}

/// What the coordinator answers for one path.
async fn ask(coordinator: &ReplicaNode, path: &str) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    Ok(http::get(address(coordinator.addresses(), "http")?, path).await?.json())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;

    let mut config = CoordinatorConfig::default_for_embedding(SiteId::new("head-office")?);
    (config.sync.listen, config.api.listen) = (Some(ANY_PORT), Some(ANY_PORT));
    let coordinator = grey_coordinator::start(&config, None, &directory.path().join("coordinator")).await?;

    // The lower tier always dials: each needs the address of the one above.
    let mut config = HubConfig::default_for_embedding(SiteId::new("hub-west")?);
    (config.sync.listen, config.api.listen) = (Some(ANY_PORT), Some(ANY_PORT));
    config.connectivity.coordinator_addresses = vec![address(coordinator.addresses(), "sync")?.to_string().parse()?];
    let hub = grey_hub::start(&config, None, &directory.path().join("hub")).await?;

    let mut config = EdgeConfig::default_for_embedding(SiteId::new("plant-7")?);
    config.ingest.mqtt.listen = ANY_PORT;
    config.api.listen = Some(ANY_PORT);
    config.connectivity.hub_addresses = vec![address(hub.addresses(), "sync")?.to_string().parse()?];
    config.forward = Forward::Raw;
    let edge = EdgeNode::start(config, &directory.path().join("edge")).await?;

    let events = (0..1_000).map(|n| Event::reading("press-1", "temperature", 71.5, 1_767_225_600_000 + n));
    edge.ingest_batch(events.collect()).await?;
    // Waits until the hub has acknowledged everything; from there it is the hub's duty.
    tokio::time::timeout(Duration::from_secs(20), edge.sync()).await??;

    let arrived = async {
        loop {
            let page = ask(&coordinator, "/v1/events?device=press-1&limit=10000").await?;
            if page["events"].as_array().is_some_and(|events| events.len() >= 1_000) {
                return Ok::<_, Box<dyn std::error::Error>>(page);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let page = tokio::time::timeout(Duration::from_secs(20), arrived).await??;
    assert_eq!(page["events"].as_array().map(Vec::len), Some(1_000), "each exactly once");

    let ledger = ask(&coordinator, "/v1/ledger").await?;
    for row in ledger["ledger"].as_array().into_iter().flatten() {
        println!("{} {}: accepted {}, delivered {}", row["site"], row["lane"], row["accepted"], row["delivered"]);
        assert_eq!(row["balanced"], true);
    }
    // From below, so that nobody sends to what is gone.
    edge.stop().await?;
    hub.stop().await?;
    coordinator.stop().await?;
    Ok(())
}
