//! Other rules take over; series give their place to others.

use grey_model::Kind;

use super::*;

/// Devices that share a partition, and so its table.
fn neighbours<const N: usize>() -> [&'static str; N] {
    let names = (0..).map(|n| &*Box::leak(format!("{n:03}").into_boxed_str()));
    let mut found = names.filter(|name| crate::batch::partition_of(name) == 0);
    std::array::from_fn(|_| found.next().unwrap())
}

#[test]
fn the_table_is_bounded_and_gives_up_the_oldest_idle_series() {
    let yaml = "[{type: aggregate, interval: 1m, fields: [count]}, {type: threshold, condition: x > 10}]";
    let mut engine = Engine::new(set(yaml, Forward::Aggregates), config(3));
    let [a, b, c, d, e, f, g] = neighbours();
    // b fires; a and c have no open window once the minute is over.
    feed(&mut engine, &[(b, "x", 11.0, 1), (a, "x", 1.0, 2), (c, "x", 1.0, 3)]);
    engine.advance(at(63_003), &mut Derived::default());
    let (derived, _) = feed(&mut engine, &[(d, "x", 1.0, 63_004)]);
    assert_eq!((derived.len(), engine.series_count(), engine.counters().series_evicted), (0, 3, 1));
    assert_eq!(engine.firing_count(), 1, "a was idle, b is not");
    // Now b fires, c is idle, d has a window: c goes, and then the oldest, b, though it fires.
    let (derived, _) = feed(&mut engine, &[(e, "x", 1.0, 63_005), (f, "x", 1.0, 63_006)]);
    assert_eq!(derived.len(), 1);
    assert_eq!(attribute(&derived[0].1, "reason"), Some("series_evicted"));
    assert_eq!(attribute(&derived[0].1, "state"), Some("cleared"));
    // Only series with open windows are left: what they have is sent, marked as a part.
    let (derived, _) = feed(&mut engine, &[(g, "x", 1.0, 63_007)]);
    assert_eq!(derived.len(), 1);
    assert_eq!((&*derived[0].1.device, attribute(&derived[0].1, "partial")), (d, Some("true")));
    let devices: Vec<_> = advance(&mut engine, 200_000).iter().map(|e| e.device.to_string()).collect();
    assert_eq!(devices, [e, f, g]);
}

#[test]
fn groups_are_bounded_too() {
    let mut engine = Engine::new(set("[{type: threshold, condition: x > 10 && y > 10}]", Forward::Raw), config(2));
    let [a, b, c, d] = neighbours();
    let (derived, _) = feed(
        &mut engine,
        &[(a, "x", 11.0, 1), (a, "y", 11.0, 2), (b, "x", 11.0, 3), (c, "x", 11.0, 4), (d, "x", 11.0, 5)],
    );
    assert_eq!(states(&derived), ["2 firing"], "idle ones go first");
    assert_eq!(engine.parts.each().map(|part| part.groups.len()).sum::<usize>(), 2);
}

#[test]
fn finishing_ends_windows_and_alerts() {
    let mut engine = engine(DOCUMENT);
    feed(&mut engine, &[("a", "temperature", 99.0, 1), ("b", "x", 1.0, 2)]);
    let mut derived = Derived::default();
    engine.finish(at(5), &mut derived);
    let shown: Vec<_> = derived.events.iter().map(|d| (d.event.kind, d.event.device.to_string())).collect();
    let expected = [(Kind::Aggregate, "a"), (Kind::Alert, "a"), (Kind::Aggregate, "b")];
    assert_eq!(shown, expected.map(|(kind, device)| (kind, device.to_owned())));
    assert_eq!(attribute(&derived.events[0].event, "partial"), Some("true"));
    assert_eq!(attribute(&derived.events[1].event, "reason"), Some("rules_changed"));
    assert!(engine.firing_count() == 0 && engine.next_due_ms().is_none());
    assert_eq!((engine.counters().alerts_fired, engine.counters().aggregates), (1, 2));
}

#[test]
fn rules_that_stay_the_same_keep_their_state() {
    let before = "
- {type: threshold, name: stays, condition: t > 85, cooldown: 1h}
- {type: threshold, name: goes, condition: t > 80}
- {type: threshold, name: held, condition: t > 70, for: 10s}
- {type: aggregate, name: sums, interval: 1m, fields: [sum]}
- {type: aggregate, name: counts, interval: 1m, fields: [count]}
- {type: threshold, name: both, condition: t > 85 && u > 1}
";
    let after = "
- {type: aggregate, name: sums, interval: 1m, fields: [sum]}
- {type: threshold, name: new, condition: t > 60}
- {type: threshold, name: both, condition: t > 85 && u > 1}
- {type: aggregate, name: counts, interval: 2m, fields: [count]}
- {type: threshold, name: held, condition: t > 70, for: 10s}
- {type: threshold, name: stays, condition: t > 85, cooldown: 1h}
";
    let mut engine = engine(before);
    feed(&mut engine, &[("a", "u", 5.0, 1_000), ("a", "t", 90.0, 1_001)]);
    let ids: Vec<_> = engine.alerts().into_iter().filter(|a| &*a.rule != "goes").map(|a| a.id).collect();
    assert_eq!(ids.len(), 3);
    let mut derived = Derived::default();
    engine.change_rules(set(after, Forward::Aggregates), at(2_000), &mut derived);
    let shown: Vec<_> = derived
        .events
        .iter()
        .map(|d| (attribute(&d.event, "rule").unwrap().to_owned(), d.event.stream.to_string()))
        .collect();
    let shown: Vec<_> = shown.iter().map(|(rule, stream)| (rule.as_str(), stream.as_str())).collect();
    assert_eq!(shown, [("counts", "t"), ("counts", "u"), ("goes", "t")]);
    assert_eq!(attribute(&derived.events[2].event, "reason"), Some("rules_changed"));
    let kept: Vec<_> = engine.alerts().into_iter().filter(|a| a.state != AlertState::Cleared).map(|a| a.id).collect();
    assert_eq!(kept, ids, "their alerts are the same ones");
    // The new rule begins with the next reading; those that stayed do not fire again.
    let (derived, _) = feed(&mut engine, &[("a", "t", 91.0, 3_000)]);
    assert_eq!(derived.iter().map(|(_, e)| attribute(e, "rule").unwrap()).collect::<Vec<_>>(), ["new"]);
    let fired = advance(&mut engine, 11_001);
    assert_eq!(fired.iter().map(|e| attribute(e, "rule").unwrap()).collect::<Vec<_>>(), ["held"]);
    let sums: Vec<_> = advance(&mut engine, 70_000).into_iter().filter(|e| &*e.stream == "t").collect();
    assert_eq!(fields(&sums[0]), BTreeMap::from([("sum".to_owned(), 181.0)]), "the window has both readings");
    let counters = engine.counters();
    assert_eq!((counters.alerts_fired, counters.alerts_cleared), (5, 1));
}

#[test]
fn the_same_rules_change_nothing() {
    let mut one = engine(DOCUMENT);
    let readings = [("a", "temperature", 99.0, 1_000), ("b", "x", 1.0, 2_000)];
    feed(&mut one, &readings);
    let before = one.snapshot();
    let mut derived = Derived::default();
    one.change_rules(set(DOCUMENT, Forward::Aggregates), at(2_000), &mut derived);
    assert_eq!(derived.events, []);
    // Only how the last value lay among the limits is looked at anew.
    feed(&mut one, &readings[1..]);
    let mut other = Engine::restore(set(DOCUMENT, Forward::Aggregates), config(SERIES_MAX), &before).unwrap();
    feed(&mut other, &readings[1..]);
    assert_eq!(pairs_until(&mut one), pairs_until(&mut other));
}

fn pairs_until(engine: &mut Engine) -> Vec<Event> {
    let mut events = pairs_of(feed(engine, &[("a", "temperature", 1.0, 3_000)]));
    events.extend(advance(engine, 100_000));
    events
}

fn pairs_of((derived, _): (Vec<(Lane, Event)>, Vec<Verdict>)) -> Vec<Event> {
    derived.into_iter().map(|(_, event)| event).collect()
}
