//! `rules test`, `check` and `explain`.

use std::path::Path;

use grey_config::Environment;
use grey_infer::Activation;
use serde_json::{Value as Json, json};

use crate::{example, greyctl, greyctl_with, here};

/// `GREY_BLESS=1 cargo test -p grey-operator` writes the file anew after a wanted change.
#[test]
fn the_example_gives_the_report_that_it_gave() {
    let ended = greyctl(&["rules", "test", "--rules", &example("press.yaml"), "--events", &example("press.ndjson")]);
    assert_eq!(ended.code(), 0, "{}", ended.message());
    let golden = here("tests/golden/press.txt");
    if std::env::var_os("GREY_BLESS").is_some() {
        std::fs::write(&golden, &ended.out).unwrap();
    }
    assert_eq!(ended.out, std::fs::read_to_string(golden).unwrap());
}

#[test]
fn the_dip_of_the_machine_is_the_only_thing_unusual() {
    let (rules, events) = (example("machine.yaml"), example("machine.csv"));
    let words = ["rules", "test", "-r", &rules, "-e", &events, "--device", "mill", "--stream", "temperature"];
    let ended = greyctl(&[&words[..], &["--output", "json"]].concat());
    let outcome: Json = serde_json::from_str(&ended.out).unwrap();
    let found = outcome["anomalies"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{}", outcome["anomalies"]);
    // 2026-03-01T16:40:00Z, the first reading of the dip.
    assert_eq!((found[0]["at_ms"].as_i64(), found[0]["seen"].as_f64()), (Some(1_772_383_200_000), Some(50.683)));
    assert_eq!(outcome["reduction"]["windows"], 23);
}

#[test]
fn json_holds_the_alerts_with_their_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let at_once = folder.path().join("at-once.yaml");
    std::fs::write(&at_once, std::fs::read_to_string(example("press.yaml")).unwrap().replace(", for: 30s", ""))
        .unwrap();
    let (rules, events) = (at_once.display().to_string(), example("press.ndjson"));
    let ended = greyctl(&["rules", "test", "-r", &rules, "-e", &events, "--output", "json"]);
    let outcome: Json = serde_json::from_str(&ended.out).unwrap();
    let alerts = outcome["alerts"].as_array().unwrap();
    let known: Vec<_> = alerts.iter().map(|a| (a["rule"].as_str().unwrap(), a["device"].as_str().unwrap())).collect();
    assert_eq!(known, [("low-pressure", "press-7"), ("overheating", "press-7"), ("overheating", "press-8")]);
    // 267.8 °F, compared and told in the unit of the condition.
    assert_eq!((alerts[2]["value"].as_f64(), alerts[2]["unit"].as_str()), (Some(131.0), Some("°C")));
    assert_eq!(outcome["reduction"]["readings"], 631);
    let accounted =
        outcome["reduction"]["reduced_by"].as_object().unwrap().values().filter_map(Json::as_u64).sum::<u64>();
    assert_eq!(accounted + outcome["reduction"]["forwarded"].as_u64().unwrap(), 631);
}

/// A model of one input that says whether the value is above 10, in `dir`.
fn put_model(dir: &Path) {
    let file = grey_infer::DenseBuilder::new().layer(1, &[1.0], &[-10.0], Activation::Sigmoid).to_bytes();
    let folder = dir.join("hot/1");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = json!({
        "format": 1, "name": "hot", "version": "1", "runtime": "mlp", "file": "model.grym",
        "digest": grey_infer::digest_of(&file),
        "inputs": [{"stream": "t", "features": 1}],
        "output": {"kind": "score", "threshold": 0.5},
        "requires": {"grey": ">=0.1"},
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    std::fs::write(folder.join("model.grym"), file).unwrap();
}

#[test]
fn models_are_found_beside_the_rules_or_where_the_command_line_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    let rules = path.display().to_string();
    let rule = "  rules: [{type: anomaly, name: m, model: hot}]\n";
    std::fs::write(&path, format!("local_processing:\n  models: {{dir: models}}\n{rule}")).unwrap();
    let test = |more: &[&str]| {
        let words = [&["rules", "test", "-r", &rules, "-e", "-", "--stream", "t"][..], more].concat();
        greyctl_with(b"ts,value\n1,2\n2,30\n3,2\n", Environment::default(), &words)
    };
    let missing = test(&[]);
    assert_eq!(missing.code(), 2);
    assert!(missing.message().contains("the models of models.dir cannot be used: "), "{}", missing.message());

    put_model(&folder.path().join("models"));
    let found = test(&[]);
    assert_eq!(found.code(), 0, "{}", found.message());
    assert!(found.out.contains("\nAnomalies: 1\n"), "{}{}", found.out, found.err);
    let nowhere = test(&["--models", "nowhere"]);
    assert_eq!(nowhere.code(), 2);
    let words = "the models of --models cannot be used: nowhere is missing";
    assert!(nowhere.message().contains(words), "{}", nowhere.message());

    std::fs::rename(folder.path().join("models"), folder.path().join("others")).unwrap();
    let others = folder.path().join("others").display().to_string();
    assert!(test(&["--models", &others]).out.contains("\nAnomalies: 1\n"));
    // No rule asks for a model, so that the folder is not missed.
    std::fs::write(&path, "local_processing:\n  models: {dir: models}\n  rules: []\n").unwrap();
    assert_eq!(test(&[]).code(), 0);
}

#[test]
fn a_saved_result_is_met_again_and_a_change_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("expected.json").display().to_string();
    let (rules, events) = (example("press.yaml"), example("press.ndjson"));
    let base = ["rules", "test", "-r", &rules, "-e", &events];
    assert_eq!(greyctl(&[&base[..], &["--write-expect", &saved]].concat()).code(), 0);
    let again = greyctl(&[&base[..], &["--expect", &saved]].concat());
    assert_eq!((again.code(), again.err.as_str()), (0, ""));

    let changed = folder.path().join("changed.yaml");
    std::fs::write(&changed, std::fs::read_to_string(&rules).unwrap().replace("85°C", "95°C")).unwrap();
    let other = greyctl(&["rules", "test", "-r", &changed.display().to_string(), "-e", &events, "--expect", &saved]);
    assert_eq!(other.code(), 1);
    assert!(other.err.contains("- alert ") && other.err.contains("press-7"), "{}", other.err);
    assert!(other.err.contains("! rules.overheating.fired: expected 1, found 0"), "{}", other.err);
    assert!(other.message().contains("the result differs from"), "{}", other.message());
}

#[test]
fn wrong_rules_are_named_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.yaml");
    let name = path.display().to_string();
    for (text, words) in [
        ("rules:\n  - {type: threshold, condition: temperature > 85 bananas}\n", ":2:51: rules[0].condition: "),
        ("local_processing:\n  rules:\n    - {type: treshold}\n", ":3:14: local_processing.rules[0].type: "),
        ("edge:\n  site_id: s\n  ingest: {nonsense: true}\n  local_processing: {rule: []}\n", "did you mean rules?"),
        ("edge:\n  local_processing:\n    rules: [{type: aggregate, interval: 1ms}]\n", "rules[0].interval: "),
        ("rules: [", "not YAML"),
        ("", "the file is empty"),
        ("- {type: threshold}\n", "a section edge"),
    ] {
        std::fs::write(&path, text).unwrap();
        for command in [&["rules", "check", "-r", &name][..], &["rules", "test", "-r", &name, "-e", "-"]] {
            let ended = greyctl(command);
            assert_eq!(ended.code(), 2, "{text}");
            assert!(ended.message().starts_with(&name) && ended.message().contains(words), "{}", ended.message());
        }
    }
    assert_eq!(greyctl(&["rules", "check", "-r", "nowhere.yaml"]).code(), 2);
}

#[test]
fn every_sort_of_document_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let bare = "rules: [{type: threshold, name: hot, condition: value > 1}]";
    let nested = "[[edge.local_processing.rules]]\ntype = \"threshold\"\nname = \"hot\"\ncondition = \"value > 1\"\n";
    for (file, text) in [
        ("a.yaml", bare.to_owned()),
        ("b.yaml", format!("local_processing:\n  {bare}\n")),
        ("c.yml", format!("edge:\n  site_id: s\n  queue: {{max_bytes: 1gb}}\n  local_processing:\n    {bare}\n")),
        ("d.toml", nested.to_owned()),
        ("e.toml", nested.replace("edge.", "")),
        ("f.toml", nested.replace("edge.local_processing.", "")),
    ] {
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let ended =
            greyctl_with(b"ts,value\n1,2\n2,0\n", Environment::default(), &["rules", "test", "-r", &path, "-e", "-"]);
        assert_eq!(ended.code(), 0, "{file}: {}", ended.message());
        assert!(ended.out.contains("\nAlerts: 1\n"), "{file}: {}", ended.out);
        let checked = greyctl(&["rules", "check", "-r", &path]);
        assert!(checked.out.contains("1 rules are valid\n") && checked.out.contains("hot"), "{}", checked.out);
        assert!(greyctl(&["rules", "explain", "-r", &path]).out.contains("hot"));
    }
}

#[test]
fn the_environment_is_laid_over_an_edge_document_as_the_agent_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.yaml");
    std::fs::write(&path, "edge:\n  site_id: s\n  forward: raw\n").unwrap();
    let environment: Environment = [("GREY_EDGE__FORWARD".to_owned(), "anomalies".to_owned())].into_iter().collect();
    let ended = greyctl_with(b"", environment, &["rules", "check", "-r", &path.display().to_string()]);
    assert!(ended.out.contains("forward anomalies"), "{}", ended.out);
    assert!(ended.out.contains("warning: GREY_EDGE__FORWARD from the environment was applied"), "{}", ended.out);
}

#[test]
fn bad_recordings_end_with_one() {
    let rules = example("press.yaml");
    let test = |input: &[u8], more: &[&str]| {
        let words = [&["rules", "test", "-r", &rules, "-e", "-"][..], more].concat();
        greyctl_with(input, Environment::default(), &words)
    };
    assert_eq!(test(b"", &[]).message(), "greyctl: -: there is no reading in it");
    assert_eq!(test(b"ts,value\n1,1\nx,1\n", &["--strict"]).code(), 1);
    let named = test(b"ts,value\n1,1\n2,x\n", &[]);
    assert_eq!(named.code(), 0);
    assert!(named.out.contains("\nline 3: the value \"x\" is not a number\n"), "{}", named.out);
    let ended = greyctl(&["rules", "test", "-r", &rules, "-e", "nowhere.ndjson"]);
    assert!(ended.code() == 1 && ended.message().contains("nowhere.ndjson: cannot be read"), "{}", ended.message());
    let ended = test(b"ts,value\n1,1\n", &["--plot", "picture.gif"]);
    assert!(ended.message().contains("allowed: .svg, .png"), "{}", ended.message());
}

#[test]
fn a_recording_out_of_order_can_be_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("r.yaml");
    std::fs::write(&path, "rules: [{type: threshold, name: hot, condition: value > 1}]").unwrap();
    let path = path.display().to_string();
    let words = ["rules", "test", "-r", &path, "-e", "-", "--sort", "--output", "json"];
    let ended = greyctl_with(b"ts,value\n9000,0\n1000,0\n5000,2\n", Environment::default(), &words);
    let outcome: Json = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(
        (outcome["alerts"][0]["fired_ms"].as_i64(), outcome["alerts"][0]["cleared_ms"].as_i64()),
        (Some(5_000), Some(9_000))
    );
}

#[test]
fn plots_are_written_in_both_formats() {
    let folder = tempfile::tempdir().unwrap();
    for (file, begins) in [("a.svg", &b"<svg "[..]), ("a.png", b"\x89PNG")] {
        let path = folder.path().join(file);
        let words = ["rules", "test", "-r", &example("press.yaml"), "-e", &example("press.ndjson"), "--plot"];
        assert_eq!(greyctl(&[&words[..], &[&path.display().to_string()]].concat()).code(), 0);
        assert!(std::fs::read(path).unwrap().starts_with(begins));
    }
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = greyctl(&["completions", shell]).out;
        assert!(script.contains("greyctl") && script.contains("unsilence"), "{shell}");
    }
}
