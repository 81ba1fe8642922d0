//! Plots of known recordings.

use grey_config::Environment;
use grey_model::Event;

use super::*;
use crate::recording::{Recorded, Summary};
use crate::replay::Replay;
use crate::rules_file::{self, Choice};

const RULES: &str = "rules:
  - {type: threshold, name: hot, condition: t > 10 °C}
  - {type: aggregate, interval: 5s}
";

fn drawn(events: &[Event], format: Format) -> Result<Vec<u8>, PlotError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    std::fs::write(&path, RULES).unwrap();
    let rules = rules_file::load(&path, &Environment::default(), &Choice::default()).unwrap();
    let mut traces = Traces::default();
    let mut replay = Replay::new(&rules, None, true);
    for event in events {
        traces.add(event);
        replay.take(Recorded { event: event.clone(), stamp: None });
    }
    draw(&traces, &replay.finish(0, Summary::default()), &rules, format)
}

fn few() -> Vec<Event> {
    let values = [4.0, 6.0, 12.0, 13.0, 5.0, 4.5, 50.0, 4.0];
    let unit = |event: Event, unit: &str| Event { unit: Some(unit.into()), ..event };
    let mut events: Vec<Event> = values
        .iter()
        .enumerate()
        .map(|(n, value)| unit(Event::reading("press <7>", "t", *value, 1_000 * n as i64), "°C"))
        .collect();
    events.push(unit(Event::reading("old", "t", 50.0, 7_500), "°F"));
    events.push(Event::reading("press <7>", "q", 1.0, 7_600));
    events
}

/// `GREY_BLESS=1 cargo test -p grey-operator` writes the file anew after a wanted change.
#[test]
fn the_svg_of_a_small_recording_stays() {
    let svg = String::from_utf8(drawn(&few(), Format::Svg).unwrap()).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plot.svg");
    if std::env::var_os("GREY_BLESS").is_some() {
        std::fs::write(&golden, &svg).unwrap();
    }
    assert_eq!(svg, std::fs::read_to_string(golden).unwrap());
    // 50 °F is 10 °C: converted, the old sensor lies on the limit and does not stretch the scale.
    assert!(svg.contains("press &lt;7&gt;") && svg.contains("t (°C)") && svg.contains("&gt; 10 °C"));
}

#[test]
fn a_png_has_the_size_of_the_plot_and_colours_in_it() {
    let png = drawn(&few(), Format::Png).unwrap();
    assert_eq!(
        &png[16..24],
        &[
            0,
            0,
            2400_u32.to_be_bytes()[2],
            2400_u32.to_be_bytes()[3],
            0,
            0,
            1156_u32.to_be_bytes()[2],
            1156_u32.to_be_bytes()[3]
        ]
    );
    assert_eq!(png, drawn(&few(), Format::Png).unwrap());
}

#[test]
fn hostile_series_are_drawn_too() {
    let reading = |stream: &str, value: f64, at: i64| Event::reading("d", stream, value, at);
    let wide = [f64::MAX, f64::MIN, 0.0, 5e-324, -0.0];
    let mut events: Vec<Event> = wide.iter().enumerate().map(|(n, value)| reading("t", *value, n as i64)).collect();
    events.extend((0..40).map(|n| reading(&format!("s{n}"), 1.0, 253_402_300_799_999)));
    events.extend((0..40).map(|n| Event::reading(format!("d{n}"), "t", 1.0, -62_167_219_200_000)));
    events.push(reading(&"\u{202e}x<&\u{7}".repeat(20), 3.0, 0));
    for format in [Format::Svg, Format::Png] {
        let picture = drawn(&events, format).unwrap();
        assert!(!picture.is_empty());
        if format == Format::Svg {
            let text = String::from_utf8(picture).unwrap();
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            assert!(text.contains("30 more streams are not drawn"), "{text}");
        }
    }
}

#[test]
fn nothing_to_draw_is_an_error() {
    let text = Event { value: grey_model::Value::Text("x".into()), ..Event::reading("d", "t", 0.0, 0) };
    assert_eq!(drawn(&[text], Format::Svg), Err(PlotError::Empty));
    assert_eq!(Format::of(Path::new("x.gif")), Err(PlotError::Format("x.gif".into())));
    assert_eq!(Format::of(Path::new("x.SVG")), Ok(Format::Svg));
}
