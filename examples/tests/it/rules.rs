//! Rules of a running site: alerts and what they cause, what people do about
//! them, and other rules and models taken over while events come in.

use std::net::SocketAddr;
use std::path::Path;

use grey_config::Environment;
use grey_edge::{ConfigSource, EdgeConfig, EdgeNode};
use grey_infer::{Activation, DenseBuilder, digest_of};
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::federation::{at, events, ledger, status};
use crate::mqtt::{Device, PUBACK, Publish};
use crate::{http, until};

const SUBACK: u8 = 9;
const PUBLISH: u8 = 3;

/// A program that takes requests; the first `refused` ones are answered with 503.
async fn hook(refused: usize) -> (SocketAddr, mpsc::UnboundedReceiver<(String, Json)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut seen = 0;
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            let (head, body) = loop {
                if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break (String::new(), Vec::new());
                }
                let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if bytes.len() >= end + 4 + length.unwrap_or(0) {
                    break (head, bytes[end + 4..].to_vec());
                }
            };
            seen += 1;
            if seen <= refused {
                let _ = socket.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
                continue;
            }
            let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            let _ = tell.send((head, serde_json::from_slice(&body).unwrap_or_default()));
        }
    });
    (address, told)
}

fn write_config(dir: &Path, local: &str) {
    let text = format!(
        "edge:\n  site_id: plant-9\n  forward: raw\n  api: {{listen: \"127.0.0.1:0\"}}\n  \
         ingest: {{mqtt: {{listen: \"127.0.0.1:0\"}}}}\n  local_processing:\n{local}"
    );
    std::fs::write(dir.join("edge.yaml"), text).expect("a file");
}

async fn start(dir: &Path) -> EdgeNode {
    let source = ConfigSource { path: dir.join("edge.yaml"), environment: Environment::empty() };
    let config = EdgeConfig::load(&source.path, &source.environment).unwrap_or_else(|e| panic!("{e}")).config;
    let node = EdgeNode::start_from(config, Some(source), &dir.join("data")).await.expect("the edge agent starts");
    until("the edge agent is ready", async || node.is_ready().then_some(())).await;
    node
}

async fn send(device: &mut Device, topic: &str, value: f64, packet_id: u16) {
    let payload = format!("{value}");
    device.publish(Publish { topic, payload: &payload, qos: 1, packet_id, dup: false }).await;
}

/// Topic and payload of the next message.
async fn message(device: &mut Device) -> (String, String) {
    let (kind, body) = device.receive().await.expect("a message");
    assert_eq!(kind, PUBLISH);
    let len = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let topic = String::from_utf8_lossy(&body[2..2 + len]).into_owned();
    (topic, String::from_utf8_lossy(&body[2 + len..]).into_owned())
}

async fn subscribe(device: &mut Device, filter: &str) {
    let mut body = vec![0, 1];
    body.extend((filter.len() as u16).to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(0);
    device.send(0x82, &body).await;
    let (kind, _) = device.receive().await.expect("SUBACK");
    assert_eq!(kind, SUBACK);
}

async fn alerts(http: SocketAddr, query: &str) -> Vec<Json> {
    let answer = http::get(http, &format!("/v1/alerts{query}")).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["alerts"].as_array().expect("alerts").clone()
}

async fn post(http: SocketAddr, path: &str, body: &Json) -> http::Answer {
    http::post(http, path, "application/json", body.to_string().as_bytes()).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_tells_devices_and_programs_and_people_take_care_of_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (hook, mut requests) = hook(2).await;
    let rules = format!(
        "    rules:\n      - type: threshold\n        name: overheating\n        condition: \"temperature > 85\"\n        \
         clear: \"temperature < 80\"\n        for: 200ms\n        severity: critical\n        tags: {{team: maintenance}}\n        \
         actions:\n          - local_alert\n          - publish: {{topic: \"plant/{{device}}/stop\", payload: \"{{value}}\"}}\n          \
         - webhook: {{url: \"http://{hook}/hook\", headers: {{x-team: \"{{tags.team}}\"}}}}\n          \
         - command: {{name: slow_down, args: {{to: \"50\"}}}}\n"
    );
    write_config(dir.path(), &rules);
    let node = start(dir.path()).await;
    let (mqtt, http) = (at(node.addresses(), "mqtt"), at(node.addresses(), "http"));
    let mut plc = Device::connect(mqtt, "plc", true).await;
    subscribe(&mut plc, "plant/+/stop").await;
    let mut drive = Device::connect(mqtt, "drive", true).await;
    subscribe(&mut drive, "commands/press-7").await;

    let mut press = Device::connect(mqtt, "press-7", true).await;
    send(&mut press, "grey/press-7/temperature", 90.0, 1).await;
    press.acknowledged(PUBACK, 1).await;
    let pending = alerts(http, "?state=pending").await;
    assert_eq!((pending.len(), pending[0]["rule"].as_str()), (1, Some("overheating")), "{pending:?}");

    // It holds: the device is told, the drive commanded, the program asked until it answers.
    let (topic, payload) = message(&mut plc).await;
    assert_eq!((topic.as_str(), payload.as_str()), ("plant/press-7/stop", "90"));
    let (_, command) = message(&mut drive).await;
    let command: Json = serde_json::from_str(&command).expect("JSON");
    assert_eq!((&command["name"], &command["args"]["to"]), (&json!("slow_down"), &json!("50")));
    let firing = alerts(http, "?state=firing&device=press-7&rule=overheating").await;
    assert_eq!(firing.len(), 1);
    let id = firing[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!((id.len(), &command["alert"]), (16, &json!(id)));
    assert_eq!(firing[0]["tags"]["team"], "maintenance");
    let (head, body) = requests.recv().await.expect("a request");
    assert!(head.starts_with("post /hook http/1.1") && head.contains("x-team: maintenance"), "{head}");
    assert!(head.contains(&format!("x-grey-alert: {id}")), "{head}");
    assert_eq!((&body["device"], &body["attributes"]["alert"]), (&json!("press-7"), &json!(id)), "{body:#}");
    until("the webhook is done", async || (status(http).await["webhooks_waiting"] == 0).then_some(())).await;

    // Somebody takes care of it.
    let answer = post(http, &format!("/v1/alerts/{id}/ack"), &json!({"by": "kim", "note": "on it"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["acknowledged"]["by"], "kim");
    let answer = http::get(http, &format!("/v1/alerts/{id}")).await.expect("an answer").json();
    assert_eq!(answer["acknowledged"]["note"], "on it");
    for (path, body, expected, place) in [
        ("/v1/alerts/0000000000000000/ack", r#"{"by": "kim"}"#, 404, None),
        (&*format!("/v1/alerts/{id}/ack"), r#"{"note": 1, "bye": "x"}"#, 422, Some("/note")),
        (&*format!("/v1/alerts/{id}/ack"), r#"{"by": "kim""#, 400, None),
        (&*format!("/v1/alerts/{id}/ack"), r#"[]"#, 422, Some("")),
        ("/v1/silences", r#"{"by": "kim", "device": "a"}"#, 422, Some("/until")),
        ("/v1/silences", r#"{"by": "kim", "device": "a", "for": "2 hours"}"#, 422, Some("/for")),
    ] {
        let answer = http::post(http, path, "application/json", body.as_bytes()).await.expect("an answer");
        assert_eq!(answer.status, expected, "{path} {body}: {}", answer.text());
        let errors = answer.json()["errors"].clone();
        assert!(
            place.is_none_or(|place| errors.as_array().is_some_and(|all| all.iter().any(|e| e["pointer"] == place))),
            "{errors}"
        );
    }

    // A silence: it clears and fires again, and nobody is told.
    let silence = post(http, "/v1/silences", &json!({"device": "press-*", "for": "1h", "by": "kim"})).await;
    assert_eq!(silence.status, 201, "{}", silence.text());
    let silence = silence.json();
    assert_eq!(http::get(http, "/v1/silences").await.expect("an answer").json()["silences"][0], silence);
    send(&mut press, "grey/press-7/temperature", 70.0, 2).await;
    press.acknowledged(PUBACK, 2).await;
    until("it has cleared", async || alerts(http, "?state=firing").await.is_empty().then_some(())).await;
    send(&mut press, "grey/press-7/temperature", 95.0, 3).await;
    press.acknowledged(PUBACK, 3).await;
    let again = until("it fires again", async || alerts(http, "?state=firing").await.pop()).await;
    assert_eq!(again["silenced"], true, "{again:#}");
    assert_ne!(again["id"], *id);

    // All of it survives a restart, and so does the rest of the silence.
    drop((press, plc, drive));
    node.stop().await.expect("the edge agent stops");
    let node = start(dir.path()).await;
    let http = at(node.addresses(), "http");
    assert_eq!(http::get(http, "/v1/silences").await.expect("an answer").json()["silences"][0], silence);
    assert_eq!(alerts(http, "?state=firing").await[0]["id"], again["id"]);
    let path = format!("/v1/silences/{}", silence["id"].as_str().expect("an id"));
    assert_eq!(http::request(http, "DELETE", &path, &[], b"").await.expect("an answer").status, 200);
    assert_eq!(http::request(http, "DELETE", &path, &[], b"").await.expect("an answer").status, 404);
    assert!(requests.try_recv().is_err(), "one request for one alert");
    ledger(http, "plant-9").await;
    node.stop().await.expect("the edge agent stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_over_all_or_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let threshold =
        |limit: u32| format!("    rules: [{{type: threshold, name: hot, condition: \"temperature > {limit}\"}}]\n");
    write_config(dir.path(), &threshold(85));
    let node = start(dir.path()).await;
    let http = at(node.addresses(), "http");
    let rules = async || http::get(http, "/v1/rules").await.expect("an answer").json();
    let before = rules().await;
    assert!(before["explained"][1].as_str().is_some_and(|text| text.contains("85")), "{before:#}");

    write_config(
        dir.path(),
        "    rules:\n      - {type: threshold, name: hot, condition: \"temperature > 85 bananas\"}\n",
    );
    let answer = post(http, "/v1/rules/reload", &Json::Null).await;
    assert_eq!((answer.status, answer.header("content-type")), (422, Some("application/problem+json")));
    let error = &answer.json()["errors"][0];
    assert_eq!((&error["line"], error["column"].as_u64().is_some()), (&json!(8), true), "{error:#}");
    assert!(error["file"].as_str().is_some_and(|file| file.ends_with("edge.yaml")), "{error:#}");
    assert_eq!(rules().await["digest"], before["digest"], "the old rules stay");
    node.reload().await.expect_err("likewise by SIGHUP");

    write_config(dir.path(), &threshold(50));
    let answer = post(http, "/v1/rules/reload", &Json::Null).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = answer.json();
    assert_eq!((&said["rules_changed"], &said["needs_restart"]), (&json!(true), &json!([])));
    assert_ne!(rules().await["digest"], before["digest"]);
    let event = br#"{"device": "press-1", "stream": "temperature", "value": 60}"#;
    assert_eq!(http::post(http, "/v1/events", "application/json", event).await.expect("an answer").status, 200);
    assert_eq!(alerts(http, "?state=firing").await.len(), 1, "the new limit holds");
    node.stop().await.expect("the edge agent stops");
}

/// A version of the model `heat`: `sigmoid(weight * (x - 50))`, an anomaly from 0.5 on.
fn put_model(dir: &Path, version: &str, weight: f32) {
    let folder = dir.join("data/models/heat").join(version);
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = DenseBuilder::new().layer(1, &[weight], &[0.0], Activation::Sigmoid).to_bytes();
    let manifest = json!({
        "format": 1, "name": "heat", "version": version, "runtime": "mlp", "file": "model.grym",
        "digest": digest_of(&file),
        "inputs": [{"stream": "temperature", "scaling": {"mean": 50, "scale": 1}}],
        "output": {"kind": "probability", "threshold": 0.5},
    });
    std::fs::write(folder.join("model.grym"), file).expect("a file");
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).expect("a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_is_swapped_under_load_and_a_bad_version_falls_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    put_model(dir.path(), "1", 1.0);
    write_config(dir.path(), "    rules: [{type: anomaly, name: heat, model: heat}]\n");
    let node = start(dir.path()).await;
    let http = at(node.addresses(), "http");
    let version = async || {
        let model = status(http).await["models"][0].clone();
        (model["version"].as_str().unwrap_or_default().to_owned(), model)
    };
    assert_eq!(version().await.0, "1");
    let sending = async {
        for n in 0..200 {
            let lines: String = (0..20)
                .map(|i| format!(r#"{{"device":"press-1","stream":"temperature","value":20,"id":"{n}-{i}"}}"#) + "\n")
                .collect();
            let answer = http::post(http, "/v1/events", "application/x-ndjson", lines.as_bytes()).await;
            assert_eq!(answer.expect("an answer").status, 200);
        }
    };
    let swapping = async {
        put_model(dir.path(), "2", 2.0);
        let answer = post(http, "/v1/rules/reload", &Json::Null).await;
        assert_eq!((answer.status, &answer.json()["rules_changed"]), (200, &json!(true)), "{}", answer.text());
        assert_eq!(version().await.0, "2");
        // One whose file is not what its manifest says.
        put_model(dir.path(), "3", 3.0);
        std::fs::write(dir.path().join("data/models/heat/3/model.grym"), b"not a model").expect("a file");
        let answer = post(http, "/v1/rules/reload", &Json::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    tokio::join!(sending, swapping);
    let (used, model) = version().await;
    assert_eq!(used, "2", "{model:#}");
    assert!(model["problem"].as_str().is_some_and(|problem| problem.contains('3')), "{model:#}");
    assert_eq!(status(http).await["accepted_total"].as_u64().map(|n| n >= 4_000), Some(true), "no event is lost");
    let kept = events(http, "stream=temperature", 10_000).await;
    assert_eq!(kept.iter().filter(|event| event["kind"] == "reading").count(), 4_000);

    // What is in use is found also after the directory is gone.
    node.stop().await.expect("the edge agent stops");
    std::fs::remove_dir_all(dir.path().join("data/models")).expect("gone");
    let node = start(dir.path()).await;
    ledger(at(node.addresses(), "http"), "plant-9").await;
    node.stop().await.expect("the edge agent stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_crossing_reaches_a_device() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    write_config(dir.path(), "    rules: [{type: threshold, condition: \"temperature > 85\"}]\n");
    let node = start(dir.path()).await;
    let mqtt = at(node.addresses(), "mqtt");
    let mut plc = Device::connect(mqtt, "plc", true).await;
    subscribe(&mut plc, "alerts/press-7/#").await;
    let mut press = Device::connect(mqtt, "press-7", true).await;
    for n in 0..200_u16 {
        send(&mut press, "grey/press-7/temperature", if n % 2 == 0 { 90.0 } else { 20.0 }, n + 1).await;
        message(&mut plc).await;
        press.acknowledged(PUBACK, n + 1).await;
    }
    node.stop().await.expect("the edge agent stops");
}
