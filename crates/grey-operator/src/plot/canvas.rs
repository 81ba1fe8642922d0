//! What a plot needs of a surface. Coordinates are in units of a point, from
//! the upper left corner.

/// A colour without transparency: red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Color(pub(super) u8, pub(super) u8, pub(super) u8);

impl Color {
    /// The colour mixed with white: 0 is the colour, 1 is white.
    pub(super) fn tinted(self, share: f64) -> Self {
        let mix = |part: u8| (f64::from(part) + (255.0 - f64::from(part)) * share).round() as u8;
        Self(mix(self.0), mix(self.1), mix(self.2))
    }

    /// The colour mixed with black.
    pub(super) fn shaded(self, share: f64) -> Self {
        let mix = |part: u8| (f64::from(part) * (1.0 - share)).round() as u8;
        Self(mix(self.0), mix(self.1), mix(self.2))
    }
}

/// Which point of a text its position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stroke {
    pub(super) color: Color,
    pub(super) width: f64,
    pub(super) dashed: bool,
}

/// Length of a dash and of the space after it.
pub(super) const DASH: (f64, f64) = (6.0, 4.0);

/// Width of a character as a share of the size of the text: every character is as wide as any other.
pub(super) const CHARACTER_WIDTH: f64 = 0.6;

/// A surface.
pub(super) trait Canvas {
    /// A filled rectangle.
    fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, color: Color, opacity: f64);
    /// A line through points.
    fn line(&mut self, points: &[(f64, f64)], stroke: Stroke);
    /// A ring around a point.
    fn ring(&mut self, x: f64, y: f64, radius: f64, stroke: Stroke);
    /// Text on its base line.
    fn text(&mut self, x: f64, y: f64, text: &str, size: f64, anchor: Anchor, color: Color);
}

/// Width of a text.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * CHARACTER_WIDTH
}
