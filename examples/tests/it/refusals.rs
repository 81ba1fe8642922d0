//! Who is refused, and what they are told.

use grey_edge::EdgeNode;
use grey_hub::HubConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::federation::{at, edge_config, hub_config, start_coordinator, start_edge, start_hub, status};
use crate::mqtt::{Device, PUBACK, Publish};
use crate::{http, until};

async fn last_failure(http: std::net::SocketAddr, text: &str) {
    until(&format!("the uplink is refused with {text:?}"), async || {
        let failure = status(http).await["uplink"]["last_failure"].to_string();
        failure.contains(text).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tier_refuses_whom_it_does_not_serve_and_says_why() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let coordinator = start_coordinator(&dir.path().join("coordinator")).await;
    let hub = start_hub(&hub_config("hub-a", &[], &[]), 1, &dir.path().join("a")).await;

    let above = at(coordinator.addresses(), "sync").to_string();
    let edge = start_edge(&edge_config("plant-1", &[above]), &dir.path().join("edge")).await;
    last_failure(at(edge.addresses(), "http"), "an edge agent belongs to a hub, and this is a coordinator").await;
    // Its events are safe meanwhile.
    let taken = http::post(
        at(edge.addresses(), "http"),
        "/v1/events",
        "application/json",
        br#"{"device":"d","stream":"s","value":1}"#,
    );
    assert_eq!(taken.await.expect("an answer").status, 200);

    let other = hub_config("hub-b", &[], &[at(hub.addresses(), "sync")]);
    let other = start_hub(&other, 1, &dir.path().join("b")).await;
    last_failure(at(other.addresses(), "http"), "a hub belongs to a coordinator, and this is a hub").await;

    for sites in [at(coordinator.addresses(), "http"), at(hub.addresses(), "http")] {
        let listed = http::get(sites, "/v1/sites").await.expect("an answer").json();
        assert_eq!(listed["sites"], serde_json::json!([]), "who was refused is no site");
    }
    edge.stop().await.expect("the edge agent stops");
    other.stop().await.expect("the second hub stops");
    hub.stop().await.expect("the hub stops");
    coordinator.stop().await.expect("the coordinator stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_has_one_process_and_one_owner() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = edge_config("plant-1", &[]);
    let edge = start_edge(&config, dir.path()).await;
    let error = EdgeNode::start(config.clone(), dir.path()).await.expect_err("it is in use").to_string();
    assert!(error.contains("in use by another process; stop it or choose another data directory"), "{error}");
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
    edge.stop().await.expect("the edge agent stops");

    let error = EdgeNode::start(edge_config("plant-2", &[]), dir.path()).await.expect_err("another site's").to_string();
    assert!(error.contains("belongs to site plant-1, not plant-2"), "{error}");

    // A damaged identity is mended from its copy, and still tells whose directory it is.
    std::fs::write(dir.path().join("identity.json"), b"{\"site\":").expect("damage");
    let error = EdgeNode::start(edge_config("plant-2", &[]), dir.path()).await.expect_err("another site's").to_string();
    assert!(error.contains("belongs to site plant-1, not plant-2"), "{error}");
    let edge = start_edge(&config, dir.path()).await;
    assert!(edge.notes().iter().any(|note| note.contains("identity")), "{:?}", edge.notes());
    edge.stop().await.expect("the edge agent stops");

    // A hub's member likewise: one process, and the place in the group that it began with.
    let members = crate::federation::three_members();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let start = |config: HubConfig, id| {
        let dir = dir.path().to_owned();
        async move { grey_hub::start(&config, Some(id), &dir).await }
    };
    let config = hub_config("hub-a", &members, &[]);
    let member = start(config.clone(), 1).await.expect("member 1 starts");
    let error = start(config.clone(), 1).await.expect_err("it is in use").to_string();
    assert!(error.contains("in use by another process"), "{error}");
    member.stop().await.expect("member 1 stops");
    let error = start(config.clone(), 2).await.expect_err("another member's").to_string();
    assert!(error.contains("holds member 1 of the group [1, 2, 3], not member 2"), "{error}");
    let error = start(config, 4).await.expect_err("no such member").to_string();
    assert!(error.contains("[1, 2, 3]"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let mut config = edge_config("plant-1", &[]);
    config.ingest.mqtt.listen = address.into();
    let error = EdgeNode::start(config, dir.path()).await.expect_err("the port is in use").to_string();
    assert!(error.contains("mqtt") && error.contains(&address.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_mqtt_costs_its_own_connection_only() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let edge = start_edge(&edge_config("plant-1", &[]), dir.path()).await;
    let (mqtt, http) = (at(edge.addresses(), "mqtt"), at(edge.addresses(), "http"));
    let mut good = Device::connect(mqtt, "press-1", true).await;
    let message = |payload, packet_id| Publish { topic: "grey/press-1/rpm", payload, qos: 1, packet_id, dup: false };

    // Not MQTT at all; a length that never ends; a packet over the limit, refused from its header on.
    let request = [b"GET / HTTP/1.1\r\n", [b'x'; 100].as_slice()].concat();
    for bytes in [&request[..], b"\x10\xff\xff\xff\xff\xff", b"\x10\xff\xff\xff\x7f"] {
        let mut socket = TcpStream::connect(mqtt).await.expect("the agent listens");
        socket.write_all(bytes).await.expect("written");
        let mut answer = Vec::new();
        let end = tokio::time::timeout(crate::PATIENCE, socket.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "the connection is closed after {bytes:?}");
    }
    // A wildcard in a topic and a topic over its limit end the connection, unacknowledged.
    let long = format!("grey/{}/rpm", "x".repeat(2_000));
    for topic in ["grey/+/rpm", &long] {
        let mut bad = Device::connect(mqtt, "bad", true).await;
        bad.publish(Publish { topic, payload: "1", qos: 1, packet_id: 1, dup: false }).await;
        assert_eq!(bad.receive().await, None, "{topic}");
    }
    // A payload that cannot be read is kept with its reason, and acknowledged: a resend would not mend it.
    good.publish(message("21,5", 1)).await;
    good.acknowledged(PUBACK, 1).await;
    good.publish(message("21.5", 2)).await;
    good.acknowledged(PUBACK, 2).await;
    let letters = http::get(http, "/v1/dead-letters").await.expect("an answer").json();
    assert_eq!(letters["dead_letters"].as_array().map(Vec::len), Some(1), "{letters:#}");
    assert_eq!(letters["dead_letters"][0]["payload"], "21,5");
    let now = status(http).await;
    assert_eq!((&now["accepted_total"], &now["dead_letters_total"]), (&1.into(), &1.into()));
    edge.stop().await.expect("the edge agent stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_on_the_uplink_leaves_sites_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let hub = start_hub(&hub_config("hub-a", &[], &[]), 1, &dir.path().join("hub")).await;
    let sync = at(hub.addresses(), "sync");
    let edge = start_edge(&edge_config("plant-1", &[sync.to_string()]), &dir.path().join("edge")).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xFF; 64], &[0; 64]] {
        let mut socket = TcpStream::connect(sync).await.expect("the hub listens");
        socket.write_all(bytes).await.expect("written");
        let mut answer = Vec::new();
        let end = tokio::time::timeout(crate::PATIENCE, socket.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "the connection is closed after {bytes:?}");
    }
    edge.ingest(grey_model::Event::reading("press-1", "rpm", 1.0, 0)).await.expect("durable");
    crate::federation::arrived(at(hub.addresses(), "http"), "plant-1", 1).await;
    edge.stop().await.expect("the edge agent stops");
    hub.stop().await.expect("the hub stops");
}
