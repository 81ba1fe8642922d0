//! The whole path: from a device to the coordinator, exactly once.

use grey_model::Event;

use crate::federation::{Federation, at, each_once, edge_config, events, settled, start_edge, status, sum};
use crate::mqtt::{Device, PUBACK, PUBCOMP, PUBREC, Publish};
use crate::{http, until};

const NOON: i64 = 1_767_225_600_000;

fn numbered(device: &str, numbers: std::ops::Range<u32>) -> Vec<Event> {
    let event = |n| Event { id: Some(format!("{n}").into()), ..Event::reading(device, "rpm", f64::from(n), NOON) };
    numbers.map(event).collect()
}

fn ids(numbers: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    numbers.map(|n| n.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_devices_were_acknowledged_for_arrives_exactly_once() {
    let federation = Federation::start().await;
    let edge = start_edge(&edge_config("plant-1", &federation.hubs()), &federation.dir.path().join("edge")).await;
    let (mqtt, http) = (at(edge.addresses(), "mqtt"), at(edge.addresses(), "http"));

    // QoS 1: fifty publishes in one go, fifty acknowledgements in their order.
    let mut device = Device::connect(mqtt, "press-1", true).await;
    let payload = |n: u16| format!(r#"{{"value": {n}, "id": "{n}", "ts": {NOON}}}"#);
    for n in 1..=50 {
        let payload = payload(n);
        device
            .publish(Publish { topic: "grey/press-1/rpm", payload: &payload, qos: 1, packet_id: n, dup: false })
            .await;
    }
    for n in 1..=50 {
        device.acknowledged(PUBACK, n).await;
    }
    // The device did not see its last acknowledgement, and sends again over a new connection.
    let mut device = Device::connect(mqtt, "press-1", true).await;
    let last = payload(50);
    device.publish(Publish { topic: "grey/press-1/rpm", payload: &last, qos: 1, packet_id: 1, dup: true }).await;
    device.acknowledged(PUBACK, 1).await;

    // QoS 2 without ids in the payload: the packet id alone makes the resend harmless.
    let message = Publish { topic: "grey/meter-1/kwh", payload: r#"{"value": 7.5}"#, qos: 2, packet_id: 9, dup: false };
    let mut device = Device::connect(mqtt, "meter-1", false).await;
    device.publish(message).await;
    device.acknowledged(PUBREC, 9).await;
    drop(device);
    let mut device = Device::connect(mqtt, "meter-1", false).await;
    device.publish(Publish { dup: true, ..message }).await;
    device.acknowledged(PUBREC, 9).await;
    device.release(9).await;
    device.acknowledged(PUBCOMP, 9).await;

    let lines: String =
        (0..50).map(|n| format!(r#"{{"device":"plc-1","stream":"count","value":{n},"id":"{n}"}}"#) + "\n").collect();
    let answer = http::post(http, "/v1/events", "application/x-ndjson", lines.as_bytes()).await.expect("an answer");
    assert_eq!((answer.status, answer.json()["accepted"].as_u64()), (200, Some(50)), "{}", answer.text());

    let found = federation.arrived("plant-1", 101).await;
    each_once(&found, "press-1", (1..=50).map(|n| n.to_string()));
    each_once(&found, "plc-1", ids(0..50));
    each_once(&found, "meter-1", [String::new()]);
    assert_eq!(found.len(), 101);

    // The books say the same at each tier: 103 sequences, of which two were resends.
    let own = settled(http, "plant-1").await;
    assert_eq!((sum(&own, "accepted"), sum(&own, "deduplicated"), sum(&own, "delivered")), (103, 2, 101));
    let upper = federation.settled("plant-1").await;
    assert_eq!((sum(&upper, "accepted"), sum(&upper, "deduplicated"), sum(&upper, "delivered")), (103, 2, 101));

    // The coordinator knows the site by way of its hub.
    until("the coordinator lists the site as online", async || {
        let sites = http::get(federation.coordinator_http(), "/v1/sites").await.ok()?.json();
        let listed = sites["sites"].as_array()?.iter().find(|found| found["site"] == "plant-1")?.clone();
        (listed["state"] == "online" && listed["hub"] == "hub-west" && listed["accepted_total"] == 103).then_some(())
    })
    .await;
    edge.stop().await.expect("the edge agent stops");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_goes_on_without_its_leader() {
    let mut federation = Federation::start().await;
    let edge = start_edge(&edge_config("plant-2", &federation.hubs()), &federation.dir.path().join("edge")).await;
    edge.ingest_batch(numbered("press-1", 0..100)).await.expect("durable");
    federation.arrived("plant-2", 100).await;

    // The leader is stopped in order, while events come in.
    let first = federation.leader().await;
    let leader = federation.members.remove(&first).expect("it runs");
    let (stopped, taken) = tokio::join!(leader.stop(), edge.ingest_batch(numbered("press-1", 100..200)));
    stopped.expect("the leader stops");
    taken.expect("durable");
    federation.arrived("plant-2", 200).await;

    // It comes back; then its successor vanishes without a word.
    federation.start_member(first).await;
    let second = federation.leader().await;
    assert_ne!(first, second);
    drop(federation.members.remove(&second));
    edge.ingest_batch(numbered("press-1", 200..300)).await.expect("durable");
    let found = federation.arrived("plant-2", 300).await;
    each_once(&found, "press-1", ids(0..300));

    federation.start_member(second).await;
    let rows = federation.settled("plant-2").await;
    assert_eq!((sum(&rows, "accepted"), sum(&rows, "delivered")), (300, 300));
    edge.stop().await.expect("the edge agent stops");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_agent_that_is_dropped_loses_nothing_and_knows_resends() {
    let federation = Federation::start().await;
    let (config, dir) = (edge_config("plant-3", &federation.hubs()), federation.dir.path().join("edge"));
    let edge = start_edge(&config, &dir).await;
    for n in 0..20 {
        edge.ingest_batch(numbered("press-1", n * 10..n * 10 + 10)).await.expect("durable");
    }
    drop(edge);

    let edge = start_edge(&config, &dir).await;
    assert_eq!(edge.notes(), [] as [&str; 0], "nothing is damaged");
    // The device never heard of the last batch and sends it again, and goes on.
    edge.ingest_batch(numbered("press-1", 190..210)).await.expect("durable");
    let found = federation.arrived("plant-3", 210).await;
    each_once(&found, "press-1", ids(0..210));
    let own = settled(at(edge.addresses(), "http"), "plant-3").await;
    assert_eq!((sum(&own, "accepted"), sum(&own, "deduplicated"), sum(&own, "delivered")), (220, 10, 210));
    federation.settled("plant-3").await;

    // Pages of any size hold each event once, in the order of acceptance.
    for limit in [1, 7, 210, 10_000] {
        let paged = events(federation.coordinator_http(), "site=plant-3", limit).await;
        assert_eq!(paged, found, "pages of {limit}");
    }
    edge.stop().await.expect("the edge agent stops");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_without_a_link_keeps_everything_until_there_is_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let members = crate::federation::three_members();
    let hubs = [members[0].sync.to_string()];
    let edge = start_edge(&edge_config("plant-4", &hubs), &dir.path().join("edge")).await;
    let http = at(edge.addresses(), "http");
    edge.ingest_batch(numbered("press-1", 0..500)).await.expect("durable without a hub");
    assert_eq!(status(http).await["degradation"], "degraded");
    assert_eq!(events(http, "device=press-1", 1_000).await.len(), 500, "local queries need no link");

    let config = crate::federation::hub_config("hub-late", &members[..1], &[]);
    let hub = crate::federation::start_hub(&config, 1, &dir.path().join("hub")).await;
    let found = crate::federation::arrived(at(hub.addresses(), "http"), "plant-4", 500).await;
    each_once(&found, "press-1", ids(0..500));
    until("the site is online", async || (status(http).await["state"] == "online").then_some(())).await;
    assert_eq!(status(http).await["degradation"], "normal");
    edge.stop().await.expect("the edge agent stops");
    hub.stop().await.expect("the hub stops");
}
