//! What HTTP promises, asked of nodes that run.

use std::net::SocketAddr;

use grey_config::Size;
use grey_model::Event;
use serde_json::Value as Json;

use crate::federation::{
    arrived, at, edge_config, events, hub_config, ledger, settled, start_edge, start_hub, status, sum,
};
use crate::{http, until};

const NOON: i64 = 1_767_225_600_000;

/// A problem document of this sort, with its status.
async fn problem(address: SocketAddr, path: &str, status: u16, slug: &str) -> Json {
    let answer = http::get(address, path).await.expect("an answer");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}: {}", answer.text());
    let document = answer.json();
    assert_eq!((answer.status, &document["status"]), (status, &Json::from(status)), "{path}");
    assert_eq!(document["type"], format!("urn:grey:problem:{slug}"), "{path}");
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_line_is_named_and_the_good_ones_are_taken() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let edge = start_edge(&edge_config("plant-1", &[]), dir.path()).await;
    let http = at(edge.addresses(), "http");
    let body = concat!(
        r#"{"device": "press-1", "stream": "rpm", "value": 1}"#,
        "\n",
        r#"{"device": "press-1", "stream": "rpm", "value": 21,5}"#,
        "\n",
        r#"{"device": "press-1", "stream": "rpm", "value": 3}"#,
        "\n",
    );
    let answer = http::post(http, "/v1/events", "application/x-ndjson", body.as_bytes()).await.expect("an answer");
    assert_eq!(answer.status, 207, "{}", answer.text());
    let said = answer.json();
    assert_eq!((&said["accepted"], &said["rejected_total"]), (&Json::from(2), &Json::from(1)));
    assert_eq!(said["rejected"][0]["line"], 2, "{said:#}");
    assert_eq!(status(http).await["accepted_total"], 2);

    // With nothing to take it is an error, which names the line as well.
    let answer = http::post(http, "/v1/events", "application/x-ndjson", b"{}\n").await.expect("an answer");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["type"], "urn:grey:problem:invalid-body");
    assert_eq!(answer.json()["errors"][0]["line"], 1, "{}", answer.text());
    for (content, body) in [
        ("application/json", "not json"),
        ("application/json", "[]"),
        ("text/plain", ""),
        ("application/json", "\u{feff}{}"),
    ] {
        let answer = http::post(http, "/v1/events", content, body.as_bytes()).await.expect("an answer");
        assert_eq!((answer.status, answer.header("content-type")), (400, Some("application/problem+json")), "{body:?}");
    }
    assert_eq!(status(http).await["accepted_total"], 2, "nothing of a refused request is accepted");
    edge.stop().await.expect("the edge agent stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_are_read_strictly_and_pages_hold_each_event_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let hub = start_hub(&hub_config("hub-west", &[], &[]), 1, &dir.path().join("hub")).await;
    let hubs = [at(hub.addresses(), "sync").to_string()];
    let edge = start_edge(&edge_config("plant-1", &hubs), &dir.path().join("edge")).await;
    let (below, above) = (at(edge.addresses(), "http"), at(hub.addresses(), "http"));
    for batch in 0..5 {
        let event = |n| Event::reading("press-1", "rpm", f64::from(n), NOON + i64::from(n));
        edge.ingest_batch((batch * 50..batch * 50 + 50).map(event).collect()).await.expect("durable");
    }
    let all = arrived(above, "plant-1", 250).await;
    assert_eq!(all.len(), 250);
    for tier in [below, above] {
        let unknown = problem(tier, "/v1/events?limt=3", 400, "invalid-query").await;
        assert_eq!(unknown["errors"][0]["parameter"], "limt");
        assert!(unknown["detail"].as_str().is_some_and(|text| text.contains("did you mean 'limit'?")), "{unknown:#}");
        problem(tier, "/v1/events?limit=0", 400, "invalid-query").await;
        problem(tier, "/v1/events?from=yesterday", 400, "invalid-query").await;
        problem(tier, "/v1/events?lane=bulk&lane=bulk", 400, "invalid-query").await;
        problem(tier, "/v1/events?cursor=abc", 400, "invalid-cursor").await;
        problem(tier, "/v1/status?verbose=1", 400, "invalid-query").await;
        problem(tier, "/v2/events", 404, "not-found").await;

        let whole = events(tier, "device=press-1", 10_000).await;
        assert_eq!(whole.len(), 250);
        for limit in [1, 49, 50, 249, 250] {
            assert_eq!(events(tier, "device=press-1", limit).await, whole, "pages of {limit}");
        }
        let half = format!("from={}&to={}", NOON + 50, NOON + 150);
        assert_eq!(events(tier, &half, 33).await.len(), 100);
        // A cursor belongs to its query.
        let page = http::get(tier, "/v1/events?device=press-1&limit=1").await.expect("an answer").json();
        let cursor = page["cursor"].as_str().expect("there is more");
        problem(tier, &format!("/v1/events?device=press-2&cursor={cursor}"), 400, "invalid-cursor").await;

        let stream =
            http::request(tier, "GET", "/v1/events?device=press-1", &[("accept", "application/x-ndjson")], b"");
        let lines = stream.await.expect("an answer").text();
        assert_eq!(lines.lines().count(), 250, "a stream without a limit is everything");

        let document = http::get(tier, "/v1/openapi.json").await.expect("an answer").json();
        assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
        assert!(document["paths"]["/v1/events"]["get"].is_object());
        let ready = http::get(tier, "/readyz").await.expect("an answer");
        assert_eq!((ready.status, &ready.json()["ready"]), (200, &Json::from(true)));
        assert_eq!(http::get(tier, "/healthz").await.expect("an answer").status, 200);
        let metrics = http::get(tier, "/metrics").await.expect("an answer").text();
        assert!(metrics.contains("# TYPE grey_http_requests_total counter"));
        let wrong = http::request(tier, "DELETE", "/v1/events", &[], b"").await.expect("an answer");
        assert_eq!(wrong.status, 405);
        assert!(wrong.header("allow").is_some_and(|allowed| allowed.contains("GET")));
    }
    problem(above, "/v1/sites/nowhere", 404, "not-found").await;
    edge.stop().await.expect("the edge agent stops");
    hub.stop().await.expect("the hub stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_outbox_makes_producers_wait_and_drains_when_the_hub_comes() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let members = crate::federation::three_members();
    let mut config = edge_config("plant-1", &[members[0].sync.to_string()]);
    // Below what a file may say, so that it fills at once.
    config.queue.max_bytes = Some(Size::from_bytes(256 << 10));
    config.queue.on_full.bulk = grey_edge::config::OnFull::Block;
    let edge = start_edge(&config, &dir.path().join("edge")).await;
    let http = at(edge.addresses(), "http");

    // Text that does not compress, in requests of their own.
    let mut noise: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut text = |bytes: usize| -> String {
        let letter = |_| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            char::from(b'0' + (noise % 64) as u8)
        };
        (0..bytes).map(letter).collect()
    };
    let mut accepted = 0;
    let refused = until("the outbox is full", async || {
        let line = |n: u64| {
            let value = serde_json::Value::from(text(4_000));
            format!(r#"{{"device":"press-1","stream":"note","value":{value},"id":"{n}"}}"#) + "\n"
        };
        let body: String = (accepted..accepted + 20).map(line).collect();
        let answer = http::post(http, "/v1/events", "application/x-ndjson", body.as_bytes()).await.expect("an answer");
        if answer.status == 200 {
            accepted += 20;
            return None;
        }
        Some(answer)
    })
    .await;
    assert_eq!((refused.status, refused.json()["type"].as_str()), (429, Some("urn:grey:problem:overloaded")));
    assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|s| s > 0)));
    let full = status(http).await;
    assert_eq!((&full["full"], &full["degradation"]), (&Json::from(true), &Json::from("limited")));
    let of_devices = |rows: &[Json]| -> Vec<Json> {
        // The outbox tells of its levels in the critical lane.
        rows.iter().filter(|row| row["lane"] != "critical").cloned().collect()
    };
    let own = of_devices(&ledger(http, "plant-1").await);
    assert_eq!(sum(&own, "accepted"), accepted, "nothing of the refused request is accepted");
    assert_eq!(full["balanced"], true);

    // The hub appears, everything drains, and the same request is taken now.
    let hub = start_hub(&hub_config("hub-late", &members[..1], &[]), 1, &dir.path().join("hub")).await;
    arrived(at(hub.addresses(), "http"), "plant-1", accepted as usize).await;
    let line = br#"{"device":"press-1","stream":"note","value":"at last","id":"last"}"#;
    until("the agent takes events again", async || {
        let answer = http::post(http, "/v1/events", "application/json", line).await.expect("an answer");
        (answer.status == 200).then_some(())
    })
    .await;
    let own = of_devices(&settled(http, "plant-1").await);
    assert_eq!((sum(&own, "accepted"), sum(&own, "dropped")), (accepted + 1, 0));
    edge.stop().await.expect("the edge agent stops");
    hub.stop().await.expect("the hub stops");
}
