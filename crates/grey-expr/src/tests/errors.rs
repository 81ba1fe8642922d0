//! Every mistake, at its character.

use super::*;
use crate::{DEPTH_MAX, OPERATORS_MAX, SLOTS_MAX, TEXT_MAX};

#[test]
fn mistakes_of_the_text_point_at_their_character() {
    for (text, offset, problem) in [
        ("", 0, "name is missing"),
        ("   ", 0, "name is missing"),
        ("> 85", 0, "a value is missing before >"),
        ("temperature", 11, "comparison is missing"),
        ("temperature = 85", 12, "a single ="),
        ("température is 85", 12, "\"is\" does not compare"),
        ("temperature > ", 14, "ends where a value is missing"),
        ("temperature > 85 bananas", 17, "unit \"bananas\" is unknown"),
        ("temperature > 85°C and x > 1", 19, "\"and\" is written &&"),
        ("temperature > 85 OR x > 1", 17, "\"OR\" is written ||"),
        ("not x > 1", 0, "\"not\" is written !"),
        ("temperature > 1e999", 14, "not a number"),
        ("température >> 85", 13, "a value is missing before >"),
        ("x > 1 & y > 2", 6, "a single &"),
        ("x > 1 | y > 2", 6, "a single |"),
        ("x ≥ 1", 2, "≥ is written >="),
        ("x > 99999999999999999999", 4, "too large to be exact"),
        ("x > 1 && (y > 2", 9, "( is not closed"),
        ("x > 1) && y > 2", 5, ") closes nothing"),
        ("(x > 1]", 6, "] does not close ("),
        ("x > 1 && && y > 2", 9, "a value is missing before &&"),
        ("x > (1, 2)", 6, "a comma stands only"),
        ("x > 1 ? y > 2", 6, "? without a :"),
        ("(x > 1 ? y > 2)", 7, "? without a :"),
        ("x > 1 : y > 2", 6, ": without a ?"),
        ("device == \"press", 10, "not closed"),
        ("device == \"ü\" && device == \"a\\ü\"", 29, "escape in the text"),
        ("`x > 1", 0, "backquote is not closed"),
        ("`` > 1", 0, "backquotes is empty"),
        ("x in {1: 2}", 5, "maps are not supported"),
        ("x. > 1", 3, "field's name is missing"),
        ("vibration.größe > 1 && y > 2", 10, "field's name is missing"),
        ("foo(x) > 1", 0, "function \"foo\" is unknown"),
        ("x > 1 && abz(y) > 2", 9, "function \"abz\" is unknown"),
        ("device.matches(\"a.*\")", 7, "regular expressions are not supported"),
        ("device.all(x, x > 1)", 7, "function \"all\" is unknown"),
        ("x == null", 5, "there is no null"),
        ("x == b\"a\"", 5, "byte texts"),
        ("x > 5u", 5, "unit \"u\" is unknown"),
        ("x # 5", 2, "'#' does not compare"),
        ("x > #", 4, "'#' is no value"),
        ("5(x) > 1", 1, "\"(\" does not compare"),
        ("x y > 1", 2, "\"y\" does not compare"),
    ] {
        let error = error(text, &Schema::default());
        assert_eq!(error.offset, offset, "{text}: {error}");
        assert!(error.problem.contains(problem), "{text}: {error}");
        assert!(!error.allowed.is_empty(), "{text}: {error}");
    }
}

#[test]
fn mistakes_of_names_types_and_units_point_at_their_character() {
    for (text, offset, problem, allowed) in [
        ("temprature > 85", 0, "stream \"temprature\" is unknown", "did you mean temperature?"),
        ("pressure > 2 && temprature > 85", 16, "stream \"temprature\" is unknown", "temperature"),
        ("temperature > hot", 14, "stream \"hot\" is unknown", ""),
        ("line-2/pressure > 2 bar", 0, "\"line-2/pressure\" is unknown", "line-1/pressure"),
        ("vibration.velocity > 7", 0, "\"vibration.velocity\" is unknown", "vibration.velocity_rms"),
        ("`line-3/pressure` > 2", 0, "unknown", "line-1/pressure"),
        ("level > 1 && stream(\"linee\") > 2", 20, "\"linee\" is unknown", "line"),
        ("temperature > 2 bar", 14, "bar measures pressure", "temperature"),
        ("level > 1 && pressure < 85°C", 24, "°C measures temperature", "pressure"),
        ("temperature > pressure", 14, "bar measures pressure", "temperature"),
        ("temperature + 2 bar > 5", 14, "bar measures pressure", "°C"),
        ("temperature > 85 Bar", 17, "unit \"Bar\" is unknown", "did you mean bar?"),
        ("temperature", 11, "comparison is missing", ">"),
        ("temperature + 1", 0, "neither true nor false", ">"),
        ("temperature && level > 1", 0, "temperature is neither true nor false", "comparison"),
        ("!temperature", 1, "temperature is neither true nor false", ""),
        ("device", 6, "comparison is missing", ""),
        ("1 < level < 5", 10, "comparisons do not chain", "&&"),
        ("level == line == 5", 14, "comparisons do not chain", "&&"),
        ("device > 5", 7, "device and 5 do not compare: one is a text", "double"),
        ("level == \"on\"", 6, "level and \"on\" do not compare", "value == \"on\""),
        ("attributes.line > 3", 16, "attribute line and 3 do not compare", "double"),
        ("device + 1 > 2", 0, "device is a text, not a number", ""),
        ("level.startsWith(\"a\")", 0, "level is a number, not a text", ""),
        ("(level > 1) + 1 > 2", 1, "a condition is no number", ""),
        ("(level > 1) > true", 12, "comparisons do not chain", ""),
        ("has(attributes.a) > true", 18, "conditions have no order", ""),
        ("level > 1 ? 1 : 2", 0, "neither true nor false", ""),
        ("(level > 1 ? \"a\" : \"b\") == device", 13, "not texts", ""),
        ("abs() > 1", 3, "abs() takes one value", ""),
        ("abs(1, 2) > 1", 3, "abs() takes one value", ""),
        ("min(1) > 1", 3, "min() takes two values", ""),
        ("previous(level + 1) > 1", 9, "previous() asks for a stream", ""),
        ("delta(value) > 1", 6, "delta() asks for a stream", ""),
        ("sqrt(-4) > 1", 6, "is no number", ""),
        ("level > 1 / 0", 10, "1 / 0 is no finite number", ""),
        ("level in []", 9, "in asks a list", ""),
        ("level in [1, line]", 13, "no constant", ""),
        ("level in [\"a\"]", 10, "is a text, not a number", ""),
        ("device in [1]", 11, "is a number, not a text", ""),
        ("attributes > 1", 0, "attributes by itself", ""),
        ("attributes[1] == \"a\"", 10, "only attributes and value have [ ]", ""),
        ("device.foo == \"a\"", 6, "no field \"foo\"", ""),
        ("has(level)", 4, "has() asks", ""),
        ("stream(level) > 1", 6, "stream() takes one name", ""),
        ("stream(\"\") > 1", 7, "name is empty", ""),
        ("pressure * pressure > 4 bar", 22, "unit is not known", ""),
        ("[1, 2] == 1", 0, "a list stands only behind in", ""),
        ("device.startsWith(1)", 18, "1 is a number, not a text", ""),
        ("quality > 1", 8, "do not compare", ""),
    ] {
        let error = error(text, &plant());
        assert_eq!(error.offset, offset, "{text}: {error}");
        assert!(error.problem.contains(problem), "{text}: {error}");
        assert!(error.allowed.contains(allowed), "{text}: {error}, {}", error.allowed);
    }
}

#[test]
fn a_mistaken_unit_of_the_schema_is_named() {
    let streams = BTreeMap::from([("x".to_owned(), Some("bananas".to_owned()))]);
    let schema = Schema { streams: Some(streams), ..Schema::default() };
    let error = error("1 < x", &schema);
    assert_eq!((error.offset, error.problem.as_str()), (4, "the unit \"bananas\" of x is unknown"));
}

#[test]
fn bounds_are_named() {
    let long = format!("x > 1{}", " ".repeat(TEXT_MAX));
    assert_eq!(error(&long, &Schema::default()).problem, "the condition is too long");
    let nested = format!("{}x > 1{}", "(".repeat(DEPTH_MAX + 1), ")".repeat(DEPTH_MAX + 1));
    let deep = error(&nested, &Schema::default());
    assert_eq!((deep.offset, deep.problem.as_str()), (DEPTH_MAX, "the condition nests too deeply"));
    let fits = format!("{}x > 1{}", "(".repeat(DEPTH_MAX), ")".repeat(DEPTH_MAX));
    compiled(&fits);
    // A chain nests in the tree, not in the text.
    let chain = format!("{}1 > 0", "x + ".repeat(DEPTH_MAX + 1));
    assert_eq!(error(&chain, &Schema::default()).problem, "the condition nests too deeply");
    let many = vec!["x > 1"; OPERATORS_MAX].join(" && ");
    assert!(error(&many, &Schema::default()).problem.contains("too many operators"));
    compiled(&vec!["x > 1"; OPERATORS_MAX / 2].join(" && "));
    let streams = |n: usize| (0..n).map(|i| format!("x{i} > 1")).collect::<Vec<_>>().join(" || ");
    assert_eq!(compiled(&streams(SLOTS_MAX)).streams().len(), SLOTS_MAX);
    let error = error(&streams(SLOTS_MAX + 1), &Schema::default());
    assert_eq!(error.problem, "the condition names too many streams");
    assert_eq!(error.offset, streams(SLOTS_MAX).chars().count() + 4);
}

#[test]
fn an_error_reads_with_its_character_from_one() {
    assert_eq!(
        error("x > ", &Schema::default()).to_string(),
        "the condition ends where a value is missing at character 5"
    );
}
