//! Rules as text: what they mean, and what is wrong with them.

use super::*;

#[test]
fn the_documents_rules_compile_and_explain_themselves() {
    let rules = set(DOCUMENT, Forward::Aggregates);
    let lines = rules.explain();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].starts_with("1 threshold-1: warning alert when a device's temperature > 85°C"), "{lines:?}");
    assert_eq!(lines[3], "3 aggregate-3: avg, min, max, count of every device's streams each 1m");
    assert_eq!(rules.warnings(), ["rule anomaly-2: it rests, since no version of edge-anomaly-v2 was found"]);
    let again = RuleSet::from_source(&rules.source(), &NoModels).unwrap();
    assert_eq!((again.digest(), again.explain()), (rules.digest(), lines));
    assert_ne!(set(DOCUMENT, Forward::Raw).digest(), rules.digest());
}

#[test]
fn a_source_written_by_another_build_keeps_its_digest() {
    // An older build would not have written keys that it did not know.
    let older = b"rules:\n  - type: aggregate\n    interval: 1m\n";
    let rules = Arc::new(RuleSet::from_source(older, &NoModels).unwrap());
    assert_eq!(rules.source(), older);
    let mut engine = Engine::new(Arc::clone(&rules), config(SERIES_MAX));
    feed(&mut engine, &[("a", "x", 1.0, 5)]);
    let again = Arc::new(RuleSet::from_source(&rules.source(), &NoModels).unwrap());
    let restored = Engine::restore(again, config(SERIES_MAX), &engine.snapshot()).unwrap();
    assert_eq!(restored.snapshot(), engine.snapshot());
    // The digest is part of saved state: this one must come out on every machine and build.
    assert_eq!(format!("{:016x}", rules.digest()), "d271b05a39730069");
    assert!(matches!(RuleSet::from_source(b"rules: [{type: nonsense}]", &NoModels), Err(RuleError::Source(_))));
    assert!(matches!(RuleSet::from_source(&[0xff], &NoModels), Err(RuleError::Source(_))));
}

#[test]
fn a_source_says_what_is_not_default_and_nothing_else() {
    let rules = set("[{type: threshold, condition: t > 5, severity: info, for: 0s}]", Forward::Raw);
    let text = String::from_utf8(rules.source()).unwrap();
    assert_eq!(
        text,
        "forward: raw\nrules:\n  - type: threshold\n    condition: t > 5\n    severity: info\n"
            .replace("t > 5", "\"t > 5\"")
    );
}

#[test]
fn thousands_of_rules_survive_their_source() {
    let mut yaml = String::new();
    for n in 0..RULES_MAX {
        yaml += &format!("- {{type: threshold, condition: s{} > {n}, severity: info, cooldown: 5s}}\n", n % 7);
    }
    let rules = set(&yaml, Forward::Aggregates);
    let again = RuleSet::from_source(&rules.source(), &NoModels).unwrap();
    assert_eq!((again.digest(), again.rules().rules.len()), (rules.digest(), RULES_MAX));
    let one_more = parsed(&(yaml + "- {type: aggregate, interval: 1m}\n"), Forward::Raw);
    assert_eq!(RuleSet::compile(&one_more, &NoModels).unwrap_err(), RuleError::TooMany(RULES_MAX + 1));
}

/// Everything that is wrong with a list of rules, beyond its syntax.
fn errors(yaml: &str) -> Vec<String> {
    RuleSet::check(&parsed(yaml, Forward::Raw)).iter().map(ToString::to_string).collect()
}

#[test]
fn contradictory_rules_are_all_named() {
    let yaml = "
- {type: aggregate, interval: 1m, fields: []}
- {type: aggregate, interval: 60s, fields: [avg, avg]}
- {type: aggregate, interval: 1ms, name: x}
- {type: threshold, condition: t > 1, name: x}
";
    let found = errors(yaml);
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].contains("name is already the name of rule 3"));
    assert!(found[1].starts_with("rule aggregate-1: fields is empty"));
    assert!(found[2].contains("names avg twice"));
    assert!(found[3].contains("interval 1ms is out of range; allowed: 100ms to 1w"));
    assert!(RuleSet::compile(&parsed(yaml, Forward::Raw), &NoModels).is_err());
}

#[test]
fn every_mistake_has_its_name() {
    for (rule, expected) in [
        ("type: aggregate", "interval is missing for a tumbling window"),
        ("type: aggregate, window: session", "gap is missing for a session window"),
        ("type: aggregate, window: count", "size is missing for a count window"),
        ("type: aggregate, window: count, size: 0", "size 0 is out of range"),
        ("type: aggregate, window: count, size: 5, interval: 1m", "interval says nothing for a count window"),
        ("type: aggregate, window: hopping, interval: 1m", "every is missing for a hopping window"),
        ("type: aggregate, window: hopping, interval: 1m, every: 7s", "every 7s does not divide 1m"),
        ("type: aggregate, window: hopping, interval: 1m, every: 2m", "every 2m is longer than 1m"),
        ("type: aggregate, interval: 8d", "interval 8d is out of range; allowed: 100ms to 1w"),
        ("type: aggregate, interval: 1m, lateness: 2d", "lateness 2d is out of range"),
        ("type: threshold, condition: t > 1, for: 31d", "for 31d is out of range"),
        ("type: threshold, condition: t > 1, streams: [x]", "streams is given, but the condition names its streams"),
        (
            "type: threshold, condition: t > 1, action: drop, clear: t < 1",
            "clear is given, but the rule raises no alert",
        ),
        ("type: threshold, condition: t > 1, action: drop, actions: [local_alert]", "action is given beside actions"),
        ("type: threshold, condition: t > 1, actions: [drop, drop]", "actions names drop twice"),
        (
            "type: threshold, condition: t > 1, actions: [drop, {set_lane: bulk}]",
            "drops readings that it also forwards",
        ),
        ("type: threshold, condition: t > 1, actions: [{publish: {topic: 'a/#'}}]", "publishes to \"a/#\""),
        ("type: threshold, condition: t > 1, actions: [{publish: {topic: a, qos: 3}}]", "publishes with qos 3"),
        (
            "type: threshold, condition: t > 1, actions: [{webhook: {url: 'ftp://x'}}]",
            "the webhook \"ftp://x\" is no URL",
        ),
        ("type: anomaly", "model is missing"),
        ("type: anomaly, model: a, detector: general", "detector is given beside a model"),
        ("type: anomaly, model: a, streams: [x]", "streams is given, but a model names its streams"),
        ("type: anomaly, detector: general, score: 2", "score 2 is out of range"),
        ("type: filter", "filters nothing"),
        ("type: filter, deduplicate: 0s", "deduplicate 0s is out of range"),
        ("type: spectrum, sample_rate: 0", "sample_rate"),
        ("type: spectrum, sample_rate: 1000, size: 1000", "size"),
        ("type: spectrum, sample_rate: 1000, bands: [{name: a, from: 80, to: 60}]", "bands"),
        ("type: spectrum, sample_rate: 1000, alarms: [{field: rsm, warning: 1}]", "\"rsm\" is no derived stream"),
        ("type: spectrum, sample_rate: 1000, alarms: [{field: rms}]", "rms has no limit"),
        (
            "type: spectrum, sample_rate: 1000, alarms: [{field: rms, warning: 2, critical: 1}]",
            "warns at 2, over the critical 1",
        ),
    ] {
        let found = errors(&format!("- {{{rule}}}"));
        assert!(found.iter().any(|error| error.contains(expected)), "{rule}: {found:?}");
    }
}

#[test]
fn derived_numbers_have_no_attributes_to_group_by() {
    let yaml = "
- {type: aggregate, interval: 1m}
- {type: spectrum, sample_rate: 1000, streams: ['vib*'], bands: [{name: a, from: 8, to: 60}]}
- {type: threshold, condition: t.avg > 1, group_by: 'tag:line'}
- {type: threshold, condition: t > 1 && vibration.band.a > 2, group_by: 'tag:line'}
- {type: threshold, condition: t > 1 && vibration.band.a > 2, group_by: site}
- {type: threshold, condition: t > 1 && u < 2, group_by: 'tag:line'}
";
    let found = errors(yaml);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("group_by is by the attribute line, which t.avg, being derived, does not have"),
        "{found:?}"
    );
    assert!(found[1].contains("vibration.band.a"), "{found:?}");
}

#[test]
fn mistakes_of_syntax_have_their_place() {
    for (rule, expected) in [
        ("type: threshold, condition: 'temperature > 85 bananas'", "2:50: rules[0].condition: in"),
        ("type: treshold, condition: t > 1", "did you mean threshold?"),
        ("type: threshold, condition: t > 1, rate_limit: 10", "in \"10\" the / is missing"),
        ("type: threshold, condition: t > 1, rate_limit: 0/1h", "\"0\" is no number from 1"),
        ("type: threshold, condition: t > 1, rate_limit: 5/1", "has no unit"),
        ("type: threshold, condition: t > 1, group_by: devise", "found \"devise\"; allowed: device, site, or tag:NAME"),
        ("type: threshold, condition: t > 1, action: local_alarm", "did you mean local_alert?"),
        ("type: threshold, condition: t > 1, action: publish", "\"publish\" needs its settings"),
        ("type: threshold, condition: t > 1, actions: [{publsh: {topic: a}}]", "did you mean publish?"),
        ("type: threshold, condition: t > 1, actions: [{publish: {topic: 'a/{devise}'}}]", "{devise} is unknown"),
        ("type: threshold, condition: t > 1, actions: [{sample: 10}]", "the % is missing"),
        ("type: threshold, condition: t > 1, actions: [{sample: 0%}]", "over 0% and up to 100%"),
        ("type: threshold, condition: t > 1, actions: [{sample: {every: 0}}]", "a whole number from 1"),
        ("type: threshold, condition: t > 1, tags: {a: {}}", "a text"),
        ("type: aggregate, interval: 1m, where: 'quality == 5'", "rules[0].where: in \"quality == 5\""),
        ("type: aggregate, interval: 1m, by: [device, site]", "found \"site\""),
        ("type: aggregate, interval: 1m, fields: [median]", "found \"median\""),
        ("type: filter, deadband: -1", "does not begin with a number from 0"),
        ("type: filter, deadband: 1 bananas", "the unit \"bananas\" is unknown"),
    ] {
        let error = Rules::from_yaml(&format!("rules:\n- {{{rule}}}")).unwrap_err().to_string();
        assert!(error.contains(expected), "{rule}: {error}");
    }
}

#[test]
fn known_streams_are_the_only_ones() {
    let check = |rules: &str| {
        let rules = format!("streams: {{temperature: °C, pressure: bar, state: null}}\nrules: [{rules}]");
        let errors = RuleSet::check(&Rules::from_yaml(&rules).unwrap());
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(check("{type: threshold, condition: temperature > 85°F}"), "");
    let unknown = check("{type: threshold, condition: temprature > 85}");
    assert!(unknown.contains("character 1") && unknown.contains("temperature"), "{unknown}");
    assert!(check("{type: threshold, condition: temperature > 85 bar}").contains("bar"), "another dimension");
    assert!(!check("{type: threshold, condition: temperature.avg > 5}").is_empty());
    assert_eq!(check("{type: threshold, condition: temperature.avg > 5}, {type: aggregate, interval: 1m}"), "");
}

proptest::proptest! {
    #[test]
    fn hostile_sources_never_panic(text in "[a-z:\\[\\]{}, \n-]{0,60}") {
        let _ = RuleSet::from_source(text.as_bytes(), &NoModels);
    }
}
