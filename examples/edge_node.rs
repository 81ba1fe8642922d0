//! An edge agent inside a program of yours: start, take events, ask, stop.
//!
//! `cargo run -p grey-examples --example edge_node`

mod http;

use grey_config::ListenAddress;
use grey_edge::{EdgeConfig, EdgeNode};
use grey_model::{Event, SiteId};
use grey_rules::Forward;

const NOON: i64 = 1_767_225_600_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let mut config = EdgeConfig::default_for_embedding(SiteId::new("plant-7")?);
    // Port 0 lets the system choose. Without hub addresses the site is an island: it keeps everything.
    config.ingest.mqtt.listen = ListenAddress::loopback(0);
    config.api.listen = Some(ListenAddress::loopback(0));
    config.forward = Forward::Raw;

    let node = EdgeNode::start(config.clone(), directory.path()).await?;
    let address = |node: &EdgeNode| node.addresses().iter().find(|(kind, _)| *kind == "http").map(|(_, at)| *at);
    let http = address(&node).ok_or("the node has an HTTP interface")?;

    // When `ingest` returns, the event is on the disk.
    node.ingest(Event::reading("press-1", "temperature", 71.5, NOON)).await?;
    let more = (1..100).map(|n| Event::reading("press-1", "temperature", 71.5, NOON + n * 1_000)).collect();
    node.ingest_batch(more).await?;
    // An id makes a device's resend harmless, also over a restart.
    let counted = Event { id: Some("press-1-000100".into()), ..Event::reading("press-1", "strokes", 12.0, NOON) };
    node.ingest(counted.clone()).await?;

    // Devices and people use HTTP, and MQTT on the other address.
    let events = http::get(http, "/v1/events?device=press-1&limit=1000").await?.json();
    assert_eq!(events["events"].as_array().map(Vec::len), Some(101));
    let posted =
        http::post(http, "/v1/events", "application/json", br#"{"device": "press-2", "stream": "rpm", "value": 900}"#)
            .await?;
    assert_eq!((posted.status, posted.json()["accepted"].as_u64()), (200, Some(1)));
    node.stop().await?;

    // The next start continues: everything is there, and the resend counts as one.
    let node = EdgeNode::start(config, directory.path()).await?;
    assert!(node.notes().is_empty(), "nothing was damaged");
    // Events are taken at once; the books have them when the replay is done.
    node.ingest(counted).await?;
    node.recovered().await;
    let http = address(&node).ok_or("the node has an HTTP interface")?;
    let status = http::get(http, "/v1/status").await?.json();
    assert_eq!(status["accepted_total"], 103);
    assert_eq!(status["deduplicated_total"], 1);
    assert_eq!(status["balanced"], true);
    println!("{status:#}");
    node.stop().await?;
    Ok(())
}
