//! Commands that ask a tier, against a server that answers from a table.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use crate::greyctl;

/// Answers one request after the other with these bodies; gives the requests back, head line and body.
pub(crate) fn tier(answers: &'static [(u16, &'static str)]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            reader.read_line(&mut line).unwrap();
            loop {
                let mut field = String::new();
                reader.read_line(&mut field).unwrap();
                match field.trim().to_ascii_lowercase().split_once(':') {
                    Some(("content-length", value)) => length = value.trim().parse().unwrap(),
                    Some(_) => {}
                    None => break,
                }
            }
            let mut sent = vec![0; length];
            reader.read_exact(&mut sent).unwrap();
            requests.push(format!("{} {}", line.trim(), String::from_utf8(sent).unwrap()).trim().to_owned());
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
        }
        requests
    });
    (url, thread)
}

#[test]
fn a_status_is_shown_member_by_member() {
    let (url, thread) = tier(&[(
        200,
        r#"{"site_id":"s","pending":{"bulk":{"events":1234}},"epoch":1795268710955,"hub":null,"balanced":true}"#,
    )]);
    let ended = greyctl(&["status", "--server", &url]);
    assert_eq!(
        ended.out,
        "balanced  true\nepoch     1795268710955\npending\n  bulk\n    events  1,234\nsite_id   s\n",
        "{}",
        ended.message()
    );
    assert_eq!(thread.join().unwrap(), ["GET /v1/status HTTP/1.1"]);
}

#[test]
fn lists_are_read_to_their_end() {
    let (url, thread) = tier(&[
        (200, r#"{"sites":[{"site":"a","state":"online","accepted_total":5}],"cursor":"x+y"}"#),
        (200, r#"{"sites":[{"site":"b","state":"offline","accepted_total":6000}]}"#),
    ]);
    let ended = greyctl(&["sites", "-s", &url]);
    assert_eq!(ended.out, "site  state    accepted\na     online          5\nb     offline     6,000\n");
    let asked = thread.join().unwrap();
    assert_eq!(asked, ["GET /v1/sites?limit=10000 HTTP/1.1", "GET /v1/sites?limit=10000&cursor=x%2By HTTP/1.1"]);
}

#[test]
fn the_ledger_and_the_queue_are_tables() {
    let (url, thread) = tier(&[
        (
            200,
            r#"{"ledger":[{"site":"a","epoch":1,"lane":"bulk","accepted":9,"delivered":4,"reduced":5,"deduplicated":0,"dropped":0,"pending":0,"resent":0,"balanced":true}]}"#,
        ),
        (
            200,
            r#"{"lanes":{"bulk":{"blocks":2,"events":10,"bytes":2000,"acknowledged_below":3,"end":5,"next_sequence":99}},"full":false}"#,
        ),
    ]);
    let ledger = greyctl(&["ledger", "-s", &url, "--site", "a"]).out;
    assert!(ledger.starts_with("site  epoch  lane  accepted") && ledger.contains("true\n"), "{ledger}");
    let queue = greyctl(&["queue", "status", "-s", &url]).out;
    assert!(queue.contains("bulk       2      10  2,000") && queue.contains("full  false"), "{queue}");
    assert_eq!(thread.join().unwrap()[0], "GET /v1/ledger?limit=10000&site=a HTTP/1.1");
}

#[test]
fn alerts_are_listed_acknowledged_and_silenced() {
    let (url, thread) = tier(&[
        (
            200,
            r#"{"alerts":[{"id":"0f","state":"firing","severity":"critical","rule":"hot","device":"d","stream":"t","value":9.5,"since":"2026-03-01T00:00:00.000Z"}],"recent":[]}"#,
        ),
        (200, r#"{"id":"0f"}"#),
        (200, r#"{"id":"aa"}"#),
        (204, ""),
        (200, r#"{"silences":[]}"#),
        (200, r#"{"rules":3}"#),
    ]);
    let list = greyctl(&["alerts", "list", "-s", &url]).out;
    assert!(list.contains("0f  firing  critical  hot   d"), "{list}");
    let words = ["alerts", "ack", "0f", "--by", "eva", "--note", "on my way", "-s", &url];
    assert!(greyctl(&words).out.starts_with("alert 0f is acknowledged\n"));
    let words = ["alerts", "silence", "--rule", "hot", "--for", "2h", "--by", "eva", "-s", &url];
    assert!(greyctl(&words).out.starts_with("silenced\n"));
    assert_eq!(greyctl(&["alerts", "unsilence", "a/a", "-s", &url]).out, "silence a/a is ended\n");
    assert_eq!(greyctl(&["alerts", "silences", "-s", &url]).out, "no silence is in force\n");
    assert_eq!(greyctl(&["rules", "reload", "-s", &url]).out, "the rules were read again\n  rules  3\n");
    assert_eq!(
        thread.join().unwrap(),
        [
            "GET /v1/alerts?limit=10000&state=pending%2Cfiring HTTP/1.1",
            r#"POST /v1/alerts/0f/ack HTTP/1.1 {"by":"eva","note":"on my way"}"#,
            r#"POST /v1/silences HTTP/1.1 {"by":"eva","for":"2h","rule":"hot"}"#,
            "DELETE /v1/silences/a%2Fa HTTP/1.1",
            "GET /v1/silences HTTP/1.1",
            "POST /v1/rules/reload HTTP/1.1 {}",
        ]
    );
}

#[test]
fn the_rules_in_force_are_told_with_their_counts() {
    let (url, thread) = tier(&[(
        200,
        r#"{"rules":[{"rule":1,"name":"hot","type":"threshold","does":"critical alert","fired_total":2,"problem":null}],"models":[],"hot_spots":[{"kind":"device","name":"d","share":0.25,"mitigation":"split"}],"warnings":["w"]}"#,
    )]);
    let ended = greyctl(&["rules", "status", "-s", &url]).out;
    assert_eq!(
        ended,
        "#  name  type       fired  does\n1  hot   threshold      2  critical alert\n\n\
         hot     name  share  mitigation\ndevice  d      0.25  split\nwarning: w\n"
    );
    assert_eq!(thread.join().unwrap(), ["GET /v1/rules HTTP/1.1"]);
}

#[test]
fn events_are_asked_for_by_page_and_by_stream() {
    let (url, thread) = tier(&[
        (200, r#"{"events":[{"device":"a","value":1}],"cursor":"c"}"#),
        (200, r#"{"events":[{"device":"b","value":{"avg":2.5}}],"cursor":"d"}"#),
        (200, "{\"device\":\"a\"}\n{\"device\":\"b\"}\n"),
    ]);
    let two = greyctl(&["events", "-s", &url, "--limit", "2", "--from", "-1h"]).out;
    assert_eq!(two, "device    value\na             1\nb       avg=2.5\nthere are more; --limit asks for them\n");
    let all = greyctl(&["events", "-s", &url, "--output", "ndjson", "--device", "press 7"]).out;
    assert_eq!(all, "{\"device\":\"a\"}\n{\"device\":\"b\"}\n");
    let asked = thread.join().unwrap();
    assert_eq!(asked[0], "GET /v1/events?from=-1h&limit=2 HTTP/1.1");
    assert_eq!(asked[1], "GET /v1/events?from=-1h&limit=1&cursor=c HTTP/1.1");
    assert_eq!(asked[2], "GET /v1/events?device=press%207 HTTP/1.1");
}

#[test]
fn refusals_end_with_one_and_say_why() {
    let (url, thread) = tier(&[(404, r#"{"title":"Not found","status":404}"#)]);
    let ended = greyctl(&["sites", "-s", &url]);
    assert_eq!(ended.code(), 1);
    assert!(ended.message().contains("/v1/sites?limit=10000 answered 404: Not found"), "{}", ended.message());
    thread.join().unwrap();
    assert!(greyctl(&["status", "-s", "https://x:1"]).message().contains("do not speak TLS"));
}
