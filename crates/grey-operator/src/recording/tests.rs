//! Recordings in every form, and what is no recording.

use grey_model::{Quality, Stamp, Value};
use proptest::prelude::*;

use super::*;

fn read_all(text: &[u8], selection: &Selection) -> Result<(Vec<Recorded>, Summary), RecordingError> {
    let mut all = Vec::new();
    let mut input = text;
    let summary = read(&mut input, "r.csv", selection, &mut |_| (), &mut |recorded| all.push(recorded))?;
    Ok((all, summary))
}

fn good(text: &str) -> (Vec<Recorded>, Summary) {
    read_all(text.as_bytes(), &Selection::default()).unwrap()
}

const POSTED: &str = r#"{"device":"a","stream":"t","value":1.5,"ts":1000,"unit":"°C","attributes":{"line":"1"}}"#;
const ANSWERED: &str = r#"{"site":"s1","epoch":1,"lane":"bulk","seq":0,"device":"a","stream":"t","kind":"reading","value":2,"ts":"1970-01-01T00:00:02.000Z","stamp":"1970-01-01T00:00:05.000Z","hlc":"20971520007","received":"1970-01-01T00:00:05.000Z","quality":"uncertain"}"#;
const ALERT: &str = r#"{"site":"s1","epoch":1,"lane":"critical","seq":0,"device":"a","stream":"t","kind":"alert","value":{"value":9.0},"ts":"1970-01-01T00:00:02.000Z","quality":"good"}"#;

#[test]
fn posted_and_answered_events_are_read() {
    let (events, summary) = good(&format!("\u{feff}{POSTED}\n\n{ANSWERED}\r\n{ALERT}\n{POSTED}"));
    assert_eq!(events.len(), 3);
    assert_eq!((summary.events, summary.derived, summary.bad_total), (3, 1, 0));
    assert_eq!(summary.site.as_deref(), Some("s1"));
    assert_eq!(events[0].event.unit.as_deref(), Some("°C"));
    assert_eq!((events[0].event.device_time_ms, events[0].stamp), (1_000, None));
    assert_eq!(events[1].event.value, Value::Integer(2));
    assert_eq!((events[1].event.device_time_ms, events[1].event.quality), (2_000, Quality::Uncertain));
    assert_eq!(events[1].stamp, Some(Stamp { hlc: 20_971_520_007, uncertainty_ms: 0 }));
    assert_eq!(events[1].stamp.unwrap().unix_ms(), 5_000);
    assert_eq!(events[2], events[0]);
}

#[test]
fn documents_and_lists_are_read_however_they_are_laid_out() {
    let page = format!(r#"{{"events":[{ANSWERED},{ALERT}],"cursor":"x"}}"#);
    let pretty = format!("{{\n  \"events\": [\n{ANSWERED},\n{ALERT}\n]\n}}\n");
    let last = format!(r#"{{"events":[{ANSWERED}]}}"#);
    for (text, events, more) in [
        (page.clone(), 1, true),
        (pretty.clone(), 1, false),
        (format!("{page}\n{last}\n"), 2, false),
        (format!("[{POSTED},{POSTED}]"), 2, false),
        (format!("[\n{POSTED},\n{POSTED}\n]\n"), 2, false),
        (format!("[\n{ANSWERED}\n]\n"), 1, false),
        (format!("{pretty}{pretty}"), 2, false),
    ] {
        let (read, summary) = good(&text);
        assert_eq!((read.len(), summary.has_more, summary.bad_total), (events, more, 0), "{text}");
    }
}

#[test]
fn csv_is_read() {
    let (events, _) = good("timestamp,value\n2014-04-01 00:00:00,20.5\n1396310700000,-3e2\n");
    let seen: Vec<_> = events.iter().map(|r| (r.event.device_time_ms, r.event.value.clone())).collect();
    assert_eq!(seen, [(1_396_310_400_000, Value::Number(20.5)), (1_396_310_700_000, Value::Number(-300.0))]);
    assert_eq!((&*events[0].event.device, &*events[0].event.stream), ("r", "value"));

    let full = "device;stream;ts;value;unit;quality;line\n\"press \"\"7\"\"\";\"a;b\";2026-03-01T00:00:00+01:00;true;bar;bad;L1\n\
                p;s;1970-01-01T00:00:00Z;1;;;\n";
    let (events, _) = good(full);
    assert_eq!((&*events[0].event.device, &*events[0].event.stream), ("press \"7\"", "a;b"));
    assert_eq!((events[0].event.value.clone(), events[0].event.quality), (Value::Bool(true), Quality::Bad));
    assert_eq!(events[0].event.attributes, [("line".into(), "L1".into())]);
    assert_eq!((events[1].event.unit.clone(), events[1].event.attributes.len()), (None, 0));

    let selection = Selection { device: Some("d".into()), stream: Some("x".into()), ..Selection::default() };
    let (events, _) = read_all(b"time\tvalue\n5\t1\n", &selection).unwrap();
    assert_eq!((&*events[0].event.device, &*events[0].event.stream), ("d", "x"));
}

#[test]
fn bad_lines_are_named_and_passed_over() {
    let text = format!(
        "{POSTED}\n{{\"device\":\"a\"}}\nnonsense\n{{\"device\":\"a\",\"stream\":\"t\",\"value\":NaN,\"ts\":1}}\n\
         {{\"device\":\"a\",\"stream\":\"t\",\"value\":1}}\n{POSTED}\n"
    );
    let (events, summary) = good(&text);
    assert_eq!((events.len(), summary.bad_total), (2, 4));
    let reasons: Vec<_> = summary.bad.iter().map(|bad| (bad.line, bad.reason.as_str())).collect();
    assert!(matches!(reasons[0], (2, reason) if reason.contains("is missing")), "{reasons:?}");
    assert!(matches!(reasons[1], (3, reason) if reason.contains("not JSON")), "{reasons:?}");
    assert!(matches!(reasons[2], (4, reason) if reason.contains("NaN")), "{reasons:?}");
    assert!(matches!(reasons[3], (5, reason) if reason.contains("has no time")), "{reasons:?}");

    let csv = "ts,value\n1,\n2,abc\n3,inf\n4,1,2\nnever,1\n5,1\n\"6,1\n\u{0},1\n";
    let (events, summary) = good(csv);
    assert_eq!((events.len(), summary.bad_total), (1, 7));
    assert_eq!(summary.bad[3].reason, "3 columns where the header has 2");

    let strict = Selection { strict: true, ..Selection::default() };
    let error = read_all(text.as_bytes(), &strict).unwrap_err().to_string();
    assert!(error.starts_with("r.csv:2: "), "{error}");
}

#[test]
fn a_bad_value_inside_a_document_does_not_end_it() {
    let (events, summary) = good(&format!("{{\n broken\n}}\n{POSTED}\n{{ \"x\n{POSTED}\n"));
    assert_eq!(events.len(), 2);
    assert!(summary.bad_total >= 2, "{summary:?}");
    assert_eq!(summary.bad[0].line, 1);
}

#[test]
fn a_torn_first_line_does_not_hide_the_others() {
    let (events, summary) = good(&format!("{}\n{POSTED}\n{POSTED}\n", &POSTED[..20]));
    assert_eq!((events.len(), summary.bad_total), (2, 1));
}

#[test]
fn long_lines_are_cut_not_held() {
    let long = format!("{POSTED}\n{{\"device\":\"{}\"}}\n{POSTED}\n", "x".repeat(LINE_BYTES_MAX + 10));
    let (events, summary) = good(&long);
    assert_eq!((events.len(), summary.bad_total), (2, 1));
    assert_eq!(summary.bad[0].line, 2);
}

#[test]
fn what_is_wanted_is_chosen() {
    let text = "device,stream,ts,value\na,t,10,1\nb,t,20,1\na,u,30,1\na,t,40,1\n";
    let selection = Selection {
        device: Some("a".into()),
        stream: Some("t".into()),
        from_ms: Some(10),
        to_ms: Some(40),
        ..Selection::default()
    };
    let (events, summary) = read_all(text.as_bytes(), &selection).unwrap();
    assert_eq!((events.len(), summary.unwanted), (1, 3));
}

#[test]
fn two_sites_need_a_choice() {
    let other = ANSWERED.replace("s1", "s2");
    let text = format!("{ANSWERED}\n{other}\n");
    let error = read_all(text.as_bytes(), &Selection::default()).unwrap_err().to_string();
    assert_eq!(error, "r.csv:2: the recording holds events of s1 and of s2: choose one with --site");
    let one = Selection { site: Some("s2".into()), ..Selection::default() };
    assert_eq!(read_all(text.as_bytes(), &one).unwrap().1.events, 1);
}

#[test]
fn what_is_no_recording_says_what_would_be() {
    for (text, words) in [
        ("", "no reading"),
        ("\n \n", "no reading"),
        ("hello\nworld\n", "neither JSON nor a CSV header"),
        ("time,temperature\n1,2\n", "no column value"),
        ("value,VALUE,ts\n", "twice"),
        ("ts,,value\n", "column 2 of the CSV header has no name"),
        ("{}\n", "1 lines cannot be read, the first is line 1"),
        ("\u{1f600}\u{0}{", "neither JSON"),
        (ALERT, "1 events are alerts"),
    ] {
        let error = read_all(text.as_bytes(), &Selection::default()).unwrap_err().to_string();
        assert!(error.contains(words), "{text:?}: {error}");
    }
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        let _ = read_all(&bytes, &Selection::default());
    }

    #[test]
    fn hostile_text_never_panics(lines in prop::collection::vec("[\\[\\]{}:,\"\\\\a-z0-9. \\n-]{0,60}", 0..6)) {
        let _ = read_all(lines.join("\n").as_bytes(), &Selection::default());
        let _ = read_all(format!("ts,value,unit\n{}", lines.join("\n")).as_bytes(), &Selection::default());
        let _ = read_all(format!("{POSTED}\n{}\n{ANSWERED}", lines.join("\n")).as_bytes(), &Selection::default());
    }

    #[test]
    fn one_changed_byte_loses_no_more_than_its_line(at in 0_usize..1_000, to: u8) {
        let mut text = format!("{POSTED}\n").repeat(5).into_bytes();
        let at = at % text.len();
        prop_assume!(text[at] != b'\n' && to != b'\n');
        // A list or page may begin in the first line alone, so that one stays.
        prop_assume!(at > POSTED.len());
        text[at] = to;
        let (events, summary) = read_all(&text, &Selection::default()).unwrap();
        prop_assert!(events.len() >= 4);
        prop_assert_eq!(events.len() as u64 + summary.bad_total, 5);
    }

    #[test]
    fn numbers_of_a_csv_come_back(values in prop::collection::vec(-1e9_f64..1e9, 1..50)) {
        let lines: String = values.iter().enumerate().map(|(n, value)| format!("{n},{value}\n")).collect();
        let (events, _) = read_all(format!("ts,value\n{lines}").as_bytes(), &Selection::default()).unwrap();
        let back: Vec<f64> = events.iter().filter_map(|recorded| recorded.event.value.as_f64()).collect();
        prop_assert_eq!(back, values);
    }
}
