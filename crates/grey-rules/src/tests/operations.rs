//! Acknowledging and silencing.

use super::*;

const RULES: &str = "
- {type: threshold, name: hot, condition: t > 85, actions: [local_alert, {webhook: {url: 'http://x/', on_clear: true}}]}
- {type: threshold, name: slow, condition: t > 85, for: 1h}
";

fn operate(engine: &mut Engine, operation: Operation, ms: i64) -> Result<Vec<Event>, OperationError> {
    let mut derived = Derived::default();
    engine.operate(&operation, at(ms), &mut derived)?;
    Ok(derived.events.into_iter().map(|d| d.event).collect())
}

fn acknowledge(alert: &str) -> Operation {
    Operation::Acknowledge { alert: alert.into(), by: "kim".into(), note: "on my way".into() }
}

#[test]
fn someone_takes_care_of_an_alert() {
    let mut engine = engine(RULES);
    feed(&mut engine, &[("a", "t", 90.0, 1)]);
    let id = engine.alerts().iter().find(|a| a.state == AlertState::Firing).unwrap().id.to_string();
    let pending = engine.alerts().iter().find(|a| a.state == AlertState::Pending).unwrap().id.to_string();
    let events = operate(&mut engine, acknowledge(&id), 5).unwrap();
    let shown = |name| attribute(&events[0], name).unwrap_or("-").to_owned();
    assert_eq!(
        (events.len(), shown("state"), shown("alert"), shown("by")),
        (1, "acknowledged".into(), id.clone(), "kim".into())
    );
    assert_eq!((shown("note"), shown("rule")), ("on my way".into(), "hot".to_owned()));
    let view = engine.alerts().into_iter().find(|a| *a.id == *id).unwrap();
    assert_eq!(view.acknowledged.map(|a| (a.by.to_string(), a.at_ms)), Some(("kim".into(), 5)));
    assert_eq!(operate(&mut engine, acknowledge(&pending), 5), Err(OperationError::NotFiring(pending)));
    for unknown in ["", "x", "0123456789abcdef", "+123456789abcdef"] {
        assert_eq!(operate(&mut engine, acknowledge(unknown), 5), Err(OperationError::NoAlert(unknown.into())));
    }
    feed(&mut engine, &[("a", "t", 1.0, 6)]);
    assert_eq!(operate(&mut engine, acknowledge(&id), 7), Err(OperationError::NoAlert(id)));
    let ended = engine.alerts();
    assert_eq!(ended[0].acknowledged.as_ref().map(|a| a.by.to_string()), Some("kim".into()));
}

#[test]
fn silenced_alerts_have_no_effects() {
    let mut engine = engine(RULES);
    let silence = |rule: Option<&str>, device: Option<&str>, until_ms| Operation::Silence {
        rule: rule.map(str::to_owned),
        device: device.map(str::to_owned),
        until_ms,
        by: "kim".into(),
        note: "maintenance".into(),
    };
    assert!(operate(&mut engine, silence(None, None, 99), 1).is_err());
    assert!(operate(&mut engine, silence(Some("hot"), None, 1), 1).is_err());
    assert!(operate(&mut engine, silence(Some("hot"), None, i64::MAX), 1).is_err());
    assert_eq!(operate(&mut engine, silence(Some("hot"), Some("press-*"), 100), 1), Ok(vec![]));
    assert_eq!(engine.next_due_ms(), Some(100));
    let mut derived = Derived::default();
    for (device, ms) in [("press-1", 10), ("pump-1", 11)] {
        engine.process(&Event::reading(device, "t", 90.0, ms), at(ms), &mut derived);
    }
    engine.process(&Event::reading("press-1", "t", 1.0, 100), at(100), &mut derived);
    let shown: Vec<_> = derived
        .events
        .iter()
        .map(|d| (d.event.device.to_string(), attribute(&d.event, "silenced").is_some(), d.effects.is_some()))
        .collect();
    // It fired silently, and ended when the silence was over.
    assert_eq!(
        shown,
        [("press-1".into(), true, false), ("pump-1".into(), false, true), ("press-1".to_owned(), false, true)]
    );
    assert!(engine.silences().is_empty());
    operate(&mut engine, silence(None, Some("pump-1"), 1_000), 200).unwrap();
    assert!(engine.alerts().iter().any(|a| &*a.device == "pump-1" && a.silenced));
    let id = engine.silences()[0].id.to_string();
    assert_eq!(operate(&mut engine, Operation::Unsilence { id: id.clone() }, 201), Ok(vec![]));
    assert_eq!(operate(&mut engine, Operation::Unsilence { id: id.clone() }, 201), Err(OperationError::NoSilence(id)));
    for n in 0..SILENCES_MAX {
        operate(&mut engine, silence(None, Some(&format!("d{n}")), 1_000), 202).unwrap();
    }
    assert_eq!(operate(&mut engine, silence(None, Some("one more"), 1_000), 202), Err(OperationError::TooMany));
}
