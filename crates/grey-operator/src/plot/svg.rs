//! A surface that becomes SVG text: the same plot gives the same bytes.

use std::fmt::Write;

use super::canvas::{Anchor, Canvas, Color, DASH, Stroke};

/// SVG being written.
pub(super) struct Svg {
    text: String,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        let mut text = String::new();
        let (w, h) = (short(width), short(height));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">"
        );
        Self { text }
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.text.push_str("</svg>\n");
        self.text.into_bytes()
    }
}

/// A coordinate to a tenth.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.to_owned() }
}

fn hex(Color(r, g, b): Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Text as XML may hold it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no place for control characters and some others.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

impl Canvas for Svg {
    fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, color: Color, opacity: f64) {
        let (x, y, w, h) = (short(x), short(y), short(width), short(height));
        let opacity = if opacity < 1.0 { format!(" fill-opacity=\"{opacity}\"") } else { String::new() };
        let _ = writeln!(
            self.text,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{}\"{opacity}/>",
            hex(color)
        );
    }

    fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let Some(((x, y), rest)) = points.split_first() else { return };
        let mut path = format!("M{} {}", short(*x), short(*y));
        for (x, y) in rest {
            let _ = write!(path, "L{} {}", short(*x), short(*y));
        }
        let dash = if stroke.dashed { format!(" stroke-dasharray=\"{} {}\"", DASH.0, DASH.1) } else { String::new() };
        let _ = writeln!(
            self.text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" stroke-linejoin=\"round\"{dash}/>",
            hex(stroke.color),
            stroke.width
        );
    }

    fn ring(&mut self, x: f64, y: f64, radius: f64, stroke: Stroke) {
        let (x, y, r) = (short(x), short(y), short(radius));
        let (color, width) = (hex(stroke.color), stroke.width);
        let _ = writeln!(
            self.text,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\"/>"
        );
    }

    fn text(&mut self, x: f64, y: f64, text: &str, size: f64, anchor: Anchor, color: Color) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = (short(x), short(y));
        let _ = writeln!(
            self.text,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{}\" xml:space=\"preserve\">{}</text>",
            hex(color),
            escaped(text)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_text() {
        assert_eq!(escaped("<script>\u{1b}&\""), "&lt;script&gt;\u{fffd}&amp;&quot;");
        assert_eq!((short(-0.04).as_str(), short(1.25).as_str(), short(7.0).as_str()), ("0", "1.2", "7"));
    }
}
