//! A surface of pixels: shapes are drawn with smooth edges by how much of a
//! pixel they cover, text from the strokes of a small font.

use super::canvas::{Anchor, CHARACTER_WIDTH, Canvas, Color, DASH, Stroke, text_width};
use super::font;

/// Pixels for one unit: sharp on a dense screen.
const SCALE: f64 = 2.0;
/// Largest side in pixels.
const SIDE_MAX: usize = 16_384;

/// Pixels, three bytes each, row by row.
pub(super) struct Raster {
    pixels: Vec<u8>,
    width: usize,
    height: usize,
}

impl Raster {
    /// A white surface.
    pub(super) fn new(width: f64, height: f64) -> Self {
        let side = |length: f64| ((length * SCALE).ceil() as usize).clamp(1, SIDE_MAX);
        let (width, height) = (side(width), side(height));
        Self { pixels: vec![255; width * height * 3], width, height }
    }

    pub(super) fn into_pixels(self) -> (Vec<u8>, usize, usize) {
        (self.pixels, self.width, self.height)
    }

    /// Lays a colour over a pixel; `coverage` 0 to 1.
    fn blend(&mut self, x: usize, y: usize, Color(r, g, b): Color, coverage: f64) {
        let at = (y * self.width + x) * 3;
        let Some(pixel) = self.pixels.get_mut(at..at + 3) else { return };
        for (old, new) in pixel.iter_mut().zip([r, g, b]) {
            *old = (f64::from(*old) + (f64::from(new) - f64::from(*old)) * coverage).round() as u8;
        }
    }

    /// The pixels from `low` to `high`, cut to the surface.
    fn span(low: f64, high: f64, end: usize) -> std::ops::Range<usize> {
        let end = end as f64;
        let start = low.floor().clamp(0.0, end) as usize;
        start..(high.ceil().clamp(0.0, end) as usize).max(start)
    }

    /// Colours every pixel by its distance, in pixels, from a shape's middle line.
    fn shape(&mut self, bounds: [f64; 4], half_width: f64, color: Color, distance: impl Fn(f64, f64) -> f64) {
        let reach = half_width + 1.0;
        let [left, top, right, bottom] = bounds;
        for y in Self::span(top - reach, bottom + reach, self.height) {
            for x in Self::span(left - reach, right + reach, self.width) {
                let coverage = half_width + 0.5 - distance(x as f64 + 0.5, y as f64 + 0.5);
                if coverage > 0.0 {
                    self.blend(x, y, color, coverage.min(1.0));
                }
            }
        }
    }

    /// A segment with round ends, in pixels.
    fn segment(&mut self, from: (f64, f64), to: (f64, f64), width: f64, color: Color) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx * dx + dy * dy;
        let bounds = [from.0.min(to.0), from.1.min(to.1), from.0.max(to.0), from.1.max(to.1)];
        self.shape(bounds, width / 2.0, color, |x, y| {
            let along = if length > 0.0 { ((x - from.0) * dx + (y - from.1) * dy) / length } else { 0.0 };
            let along = along.clamp(0.0, 1.0);
            (x - from.0 - along * dx).hypot(y - from.1 - along * dy)
        });
    }
}

/// The dashes of a line; a dash goes round corners.
fn dashes(points: &[(f64, f64)]) -> Vec<[(f64, f64); 2]> {
    let mut parts = Vec::new();
    let (mut on, mut left) = (true, DASH.0);
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        let mut length = (to.0 - from.0).hypot(to.1 - from.1);
        while length > 0.0 {
            let step = left.min(length);
            let share = step / length;
            let next = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
            if on {
                parts.push([from, next]);
            }
            length -= step;
            left -= step;
            from = next;
            if left <= 0.0 {
                on = !on;
                left = if on { DASH.0 } else { DASH.1 };
            }
        }
    }
    parts
}

fn scaled((x, y): (f64, f64)) -> (f64, f64) {
    (x * SCALE, y * SCALE)
}

impl Canvas for Raster {
    fn rectangle(&mut self, x: f64, y: f64, width: f64, height: f64, color: Color, opacity: f64) {
        let (left, top) = scaled((x, y));
        let (right, bottom) = scaled((x + width, y + height));
        let cover = |low: f64, high: f64, at: usize| (high.min(at as f64 + 1.0) - low.max(at as f64)).clamp(0.0, 1.0);
        for row in Self::span(top, bottom, self.height) {
            for column in Self::span(left, right, self.width) {
                let coverage = cover(top, bottom, row) * cover(left, right, column);
                self.blend(column, row, color, coverage * opacity);
            }
        }
    }

    fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let width = stroke.width * SCALE;
        if stroke.dashed {
            for [from, to] in dashes(points) {
                self.segment(scaled(from), scaled(to), width, stroke.color);
            }
            return;
        }
        for pair in points.windows(2) {
            self.segment(scaled(pair[0]), scaled(pair[1]), width, stroke.color);
        }
    }

    fn ring(&mut self, x: f64, y: f64, radius: f64, stroke: Stroke) {
        let ((x, y), radius) = (scaled((x, y)), radius * SCALE);
        let bounds = [x - radius, y - radius, x + radius, y + radius];
        self.shape(bounds, stroke.width * SCALE / 2.0, stroke.color, |px, py| ((px - x).hypot(py - y) - radius).abs());
    }

    fn text(&mut self, x: f64, y: f64, text: &str, size: f64, anchor: Anchor, color: Color) {
        let start = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - text_width(text, size) / 2.0,
            Anchor::End => x - text_width(text, size),
        };
        let cell = size * CHARACTER_WIDTH / font::ADVANCE * SCALE;
        for (place, character) in text.chars().enumerate() {
            let (left, base) = scaled((start + place as f64 * size * CHARACTER_WIDTH, y));
            let point = |(column, row): (u8, u8)| {
                let above = f64::from(font::ROWS) - f64::from(row) - 0.5;
                (left + (f64::from(column) + 0.5) * cell, base - above * cell)
            };
            for (from, to) in font::strokes(character) {
                self.segment(point(from), point(to), cell * 0.95, color);
            }
        }
    }
}
