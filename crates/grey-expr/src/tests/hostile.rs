//! Texts from anywhere give an error or a condition, never a panic or a deep stack.

use super::*;

/// A stack as small as a thread may have that reads rules.
const STACK_BYTES: usize = 512 << 10;

fn survives(text: String) {
    let run = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        for schema in [Schema::default(), plant()] {
            match Expr::compile(&text, &schema) {
                Ok(expr) => {
                    let values = vec![1.0; expr.streams().len()];
                    let _ = (eval(&expr, &values, &event()), eval(&expr, &[], &event()), expr.explain());
                }
                Err(error) => assert!(error.offset <= text.chars().count(), "{text}: {error}"),
            }
        }
    });
    run.unwrap().join().unwrap();
}

#[test]
fn deep_and_long_texts_do_not_overflow_a_small_stack() {
    let nests = [
        "(", "[", "!", "-", "abs(", "!(", "-(", "x+(", "x&&(", "a?b:", "a?(", "x[", "x.y[", "min(1,", "{", "x.a(",
        "\"", "`", "1+",
    ];
    for nest in nests {
        for n in [31, 63, 64, 127, 255, 256, 1_000, 4_000] {
            survives(nest.repeat(n));
            survives(format!("{}x > 1", nest.repeat(n)));
            survives(format!("{}x > 1{}", nest.repeat(n), ")".repeat(n)));
        }
    }
    for join in [" + ", " && ", " || ", " < ", " - ", " ? 1 : ", ".", " in ", ", ", "] + [", " == "] {
        for n in [60, 128, 255, 257, 1_000] {
            survives(vec!["x"; n].join(join));
            survives(format!("min({}) > 1", vec!["1"; n].join(join)));
            survives(vec!["(x > 1)"; n].join(join));
        }
    }
    survives("x".repeat(4_096));
    survives("9".repeat(4_096));
    survives(format!("x in [{}]", vec!["1"; 2_000].join(",")));
    survives("x".repeat(1 << 20));
}

proptest::proptest! {
    #[test]
    fn any_text(text in ".{0,60}") {
        survives(text);
    }

    #[test]
    fn near_misses(text in "[a-b<>=!&|?:(), .0-9eE+°C\"'`%/\\[\\]{}inr\\\\-]{0,40}") {
        survives(text);
    }

    #[test]
    fn tokens(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "x", "temperature", "85°C", "2 bar", "1", "-", "!", "(", ")", "&&", "||", "<", "==", "?", ":", "+", "*", "/",
        "%", "in", "[", "]", ",", ".", "avg", "device", "\"a\"", "startsWith(", "abs(", "has(", "attributes", "value",
        "true", "`a b`", "stream(", "min(", "previous(", "in ", "kW", "'\\n'", "for", "r\"\\\"", "0", "1e9",
    ]), 0..24)) {
        survives(tokens.join(" "));
        survives(tokens.concat());
    }
}
