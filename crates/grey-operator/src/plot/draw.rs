//! Lays a run out: one panel for each stream, devices as lines in it.

use std::collections::BTreeSet;

use grey_model::Name;
use grey_model::time::format_rfc3339_ms;

use super::PlotError;
use super::canvas::{Anchor, Canvas, Color, Stroke, text_width};
use super::scale::{Scale, time_ticks, value_ticks};
use super::trace::{Bucket, Trace, Traces, conversion};
use crate::replay::Outcome;
use crate::rules_file::Limit;
use crate::text_table::{number, span};

/// Panels of a plot; more are named below it.
const PANELS_MAX: usize = 12;
/// Lines in a panel; more are named in its legend.
const LINES_MAX: usize = 8;
/// Characters of a name in a legend.
const NAME_CHARS_MAX: usize = 28;

const WIDTH: f64 = 1_200.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const HEAD: f64 = 58.0;
const FOOT: f64 = 24.0;
/// Height of a panel with its title and the labels of its time.
const PANEL: f64 = 248.0;
const PANEL_TITLE: f64 = 30.0;
const PANEL_LABELS: f64 = 42.0;
const COLUMNS: usize = (WIDTH - LEFT - RIGHT) as usize;

const INK: Color = Color(0x22, 0x22, 0x22);
const FAINT: Color = Color(0x66, 0x66, 0x66);
const GRID: Color = Color(0xe4, 0xe4, 0xe4);
const FRAME: Color = Color(0x99, 0x99, 0x99);
const PAPER: Color = Color(0xff, 0xff, 0xff);
/// What alerts: limits and the times of firing.
const ALARM: Color = Color(0xd5, 0x3e, 0x00);
/// What detectors found.
const FOUND: Color = Color(0xb0, 0x1e, 0x8c);
/// Lines, told apart also by those who see colours otherwise (after Okabe and Ito).
const LINES: [Color; LINES_MAX] = [
    Color(0x00, 0x72, 0xb2),
    Color(0x00, 0x9e, 0x73),
    Color(0xe6, 0x9f, 0x00),
    Color(0x56, 0xb4, 0xe9),
    Color(0x8c, 0x56, 0x4b),
    Color(0x7b, 0x5f, 0xc4),
    Color(0x5f, 0x8f, 0x2f),
    Color(0x77, 0x77, 0x77),
];

/// A plot, laid out.
pub(super) struct Plan<'a> {
    panels: Vec<Panel<'a>>,
    from_ms: i64,
    to_ms: i64,
    title: String,
    /// What is not drawn.
    footnotes: Vec<String>,
    outcome: &'a Outcome,
}

struct Panel<'a> {
    stream: &'a Name,
    unit: Option<&'a Name>,
    lines: Vec<(&'a Name, &'a Trace)>,
    /// Devices that there was no colour for.
    hidden: usize,
    limits: Vec<&'a Limit>,
    from: f64,
    to: f64,
}

/// Chooses what is drawn: streams that something happened on first.
pub(super) fn plan<'a>(traces: &'a Traces, outcome: &'a Outcome, limits: &'a [Limit]) -> Result<Plan<'a>, PlotError> {
    let times = traces.series.values().flat_map(|trace| trace.buckets.iter());
    let from_ms = times.clone().map(|bucket| bucket.first_ms).min().ok_or(PlotError::Empty)?;
    let to_ms = times.map(|bucket| bucket.last_ms).max().ok_or(PlotError::Empty)?;
    let happened: BTreeSet<(&str, &str)> = (outcome.alerts.iter().map(|a| (a.stream.as_str(), a.device.as_str())))
        .chain(outcome.anomalies.iter().map(|a| (a.stream.as_str(), a.device.as_str())))
        .collect();
    let mut streams: Vec<&Name> = traces.series.keys().map(|(stream, _)| stream).collect();
    streams.dedup();
    let quiet = |stream: &Name| !happened.iter().any(|(with, _)| *with == stream.as_str());
    let unwatched = |stream: &Name| !limits.iter().any(|limit| limit.concerns(stream));
    streams.sort_by_key(|stream| (quiet(stream), unwatched(stream)));
    let mut footnotes = Vec::new();
    if streams.len() > PANELS_MAX {
        footnotes.push(format!("{} more streams are not drawn; choose one with --stream", streams.len() - PANELS_MAX));
        streams.truncate(PANELS_MAX);
    }
    if traces.beyond > 0 {
        footnotes.push(format!("{} readings of further series are not drawn", traces.beyond));
    }
    if traces.foreign > 0 {
        footnotes.push(format!("{} readings whose unit does not convert are not drawn", traces.foreign));
    }
    let panels = streams.into_iter().map(|stream| Panel::new(stream, traces, limits, &happened)).collect();
    let moment = |ms: i64| format_rfc3339_ms(ms).trim_end_matches('Z').trim_end_matches(".000").replace('T', " ");
    let title = format!("{} to {} UTC ({})", moment(from_ms), moment(to_ms), span(to_ms.saturating_sub(from_ms)));
    Ok(Plan { panels, from_ms, to_ms, title, footnotes, outcome })
}

impl<'a> Panel<'a> {
    fn new(stream: &'a Name, traces: &'a Traces, limits: &'a [Limit], happened: &BTreeSet<(&str, &str)>) -> Self {
        let mut lines: Vec<(&Name, &Trace)> = traces
            .series
            .iter()
            .filter(|((of, _), _)| of == stream)
            .map(|((_, device), trace)| (device, trace))
            .collect();
        lines.sort_by_key(|(device, _)| !happened.contains(&(stream.as_str(), device.as_str())));
        let hidden = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        let buckets = lines.iter().flat_map(|(_, trace)| trace.buckets.iter());
        let (mut from, mut to) = (f64::INFINITY, f64::NEG_INFINITY);
        for bucket in buckets {
            (from, to) = (from.min(bucket.min), to.max(bucket.max));
        }
        let unit = traces.unit(stream);
        let limits: Vec<&Limit> = limits.iter().filter(|limit| limit.concerns(stream)).collect();
        let width = (to - from).max(from.abs().max(to.abs()) * 1e-3).max(1e-9);
        for limit in &limits {
            // A limit far away would flatten the line; it is named at the edge instead.
            if let Some(at) =
                in_unit(limit.value, &limit.unit, unit).filter(|at| *at > from - 3.0 * width && *at < to + 3.0 * width)
            {
                (from, to) = (from.min(at), to.max(at));
            }
        }
        let margin = (to - from).max(width) * 0.06;
        Self { stream, unit, lines, hidden, limits, from: from - margin, to: to + margin }
    }

    fn color(&self, device: &str) -> Option<Color> {
        self.lines.iter().position(|(known, _)| ***known == *device).map(|at| LINES[at])
    }
}

fn line(color: Color, width: f64) -> Stroke {
    Stroke { color, width, dashed: false }
}

fn cut(name: &str) -> String {
    let mut text: String = name.chars().take(NAME_CHARS_MAX).collect();
    if name.chars().nth(NAME_CHARS_MAX).is_some() {
        text.push('…');
    }
    text
}

impl Plan<'_> {
    /// Width and height of the plot.
    pub(super) fn size(&self) -> (f64, f64) {
        (WIDTH, HEAD + PANEL * self.panels.len() as f64 + FOOT + 16.0 * self.footnotes.len() as f64)
    }

    /// Draws everything.
    pub(super) fn paint(&self, canvas: &mut dyn Canvas) {
        let (width, height) = self.size();
        canvas.rectangle(0.0, 0.0, width, height, PAPER, 1.0);
        canvas.text(LEFT, 24.0, &self.title, 14.0, Anchor::Start, INK);
        self.legend(canvas);
        for (place, panel) in self.panels.iter().enumerate() {
            self.panel(canvas, panel, HEAD + PANEL * place as f64);
        }
        for (place, note) in self.footnotes.iter().enumerate() {
            let y = HEAD + PANEL * self.panels.len() as f64 + 16.0 * (place as f64 + 1.0);
            canvas.text(LEFT, y, note, 11.0, Anchor::Start, FAINT);
        }
    }

    /// What the marks mean; only those that occur.
    fn legend(&self, canvas: &mut dyn Canvas) {
        let mut x = LEFT;
        let y = 46.0;
        let mut entry = |canvas: &mut dyn Canvas, text: &str, mark: &dyn Fn(&mut dyn Canvas, f64)| {
            mark(canvas, x);
            canvas.text(x + 30.0, y, text, 11.0, Anchor::Start, FAINT);
            x += 30.0 + text_width(text, 11.0) + 22.0;
        };
        entry(canvas, "readings", &|canvas, x| canvas.line(&[(x, y - 4.0), (x + 24.0, y - 4.0)], line(LINES[0], 1.4)));
        if self.panels.iter().any(|panel| !panel.limits.is_empty()) {
            entry(canvas, "limit", &|canvas, x| {
                canvas.line(&[(x, y - 4.0), (x + 24.0, y - 4.0)], Stroke { dashed: true, ..line(ALARM, 1.2) });
            });
        }
        if !self.outcome.alerts.is_empty() {
            entry(canvas, "alert fires", &|canvas, x| {
                canvas.rectangle(x, y - 10.0, 24.0, 12.0, ALARM, 0.18);
                canvas.line(&[(x, y - 10.0), (x, y + 2.0)], line(ALARM, 1.2));
            });
        }
        if !self.outcome.anomalies.is_empty() {
            entry(canvas, "anomaly", &|canvas, x| canvas.ring(x + 12.0, y - 4.0, 4.5, line(FOUND, 1.6)));
        }
        if !self.outcome.windows.is_empty() {
            entry(canvas, "average of a window", &|canvas, x| {
                let steps = [(x, y - 1.0), (x + 12.0, y - 1.0), (x + 12.0, y - 7.0), (x + 24.0, y - 7.0)];
                canvas.line(&steps, line(LINES[0].shaded(0.45), 1.8));
            });
        }
    }

    fn panel(&self, canvas: &mut dyn Canvas, panel: &Panel<'_>, top: f64) {
        let (from_y, to_y) = (top + PANEL - PANEL_LABELS, top + PANEL_TITLE);
        let right = WIDTH - RIGHT;
        let values = Scale::new(panel.from, panel.to, from_y, to_y);
        // One moment alone still needs some width.
        let spread = if self.to_ms > self.from_ms { 0.0 } else { 1.0 };
        let times = Scale::new(self.from_ms as f64 - spread, self.to_ms as f64 + spread, LEFT, right);
        self.axes(canvas, panel, &values, &times, top);
        self.firing(canvas, panel, &times, (to_y, from_y));
        for (place, (_, trace)) in panel.lines.iter().enumerate() {
            for points in curve(&trace.columns(self.from_ms, self.to_ms, COLUMNS), &times, &values) {
                match points.as_slice() {
                    [(x, y)] => canvas.line(&[(x - 0.7, *y), (x + 0.7, *y)], line(LINES[place], 1.4)),
                    points => canvas.line(
                        points,
                        line(LINES[place].tinted(if self.outcome.windows.is_empty() { 0.0 } else { 0.25 }), 1.2),
                    ),
                }
            }
        }
        self.windows(canvas, panel, &times, &values);
        limits(canvas, panel, &values);
        self.anomalies(canvas, panel, &times, &values);
        canvas.line(&[(LEFT, to_y), (LEFT, from_y), (right, from_y)], line(FRAME, 1.0));
    }

    fn axes(&self, canvas: &mut dyn Canvas, panel: &Panel<'_>, values: &Scale, times: &Scale, top: f64) {
        let (from_y, to_y) = (top + PANEL - PANEL_LABELS, top + PANEL_TITLE);
        let right = WIDTH - RIGHT;
        for (value, label) in value_ticks(panel.from, panel.to, 6) {
            let y = values.at(value);
            canvas.line(&[(LEFT, y), (right, y)], line(GRID, 1.0));
            canvas.text(LEFT - 8.0, y + 4.0, &label, 11.0, Anchor::End, FAINT);
        }
        for (at, label) in time_ticks(self.from_ms, self.to_ms, 10) {
            let x = times.at(at as f64);
            canvas.line(&[(x, to_y), (x, from_y)], line(GRID, 1.0));
            canvas.line(&[(x, from_y), (x, from_y + 4.0)], line(FRAME, 1.0));
            canvas.text(x, from_y + 17.0, &label, 11.0, Anchor::Middle, FAINT);
        }
        canvas.text(right, from_y + 32.0, "time (UTC)", 11.0, Anchor::End, FAINT);
        let unit = panel.unit.map(|unit| format!(" ({unit})")).unwrap_or_default();
        let title = format!("{}{unit}", cut(panel.stream));
        canvas.text(LEFT, top + 18.0, &title, 14.0, Anchor::Start, INK);
        self.devices(canvas, panel, LEFT + text_width(&title, 14.0) + 24.0, top + 18.0);
    }

    /// The legend of a panel: its devices.
    fn devices(&self, canvas: &mut dyn Canvas, panel: &Panel<'_>, left: f64, y: f64) {
        let mut x = left;
        let mut shown = 0;
        for (place, (device, _)) in panel.lines.iter().enumerate() {
            let name = cut(device);
            let width = 22.0 + text_width(&name, 11.0) + 16.0;
            if x + width > WIDTH - RIGHT - 80.0 {
                break;
            }
            canvas.line(&[(x, y - 4.0), (x + 16.0, y - 4.0)], line(LINES[place], 2.2));
            canvas.text(x + 22.0, y, &name, 11.0, Anchor::Start, FAINT);
            x += width;
            shown += 1;
        }
        let unnamed = panel.lines.len() - shown;
        if panel.hidden + unnamed > 0 {
            let not_drawn = if panel.hidden > 0 { format!(", {} not drawn", panel.hidden) } else { String::new() };
            canvas.text(x, y, &format!("+{}{not_drawn}", panel.hidden + unnamed), 11.0, Anchor::Start, FAINT);
        }
    }

    /// Shades the times at which alerts of the stream fired.
    fn firing(&self, canvas: &mut dyn Canvas, panel: &Panel<'_>, times: &Scale, (top, bottom): (f64, f64)) {
        let mut shades: Vec<(f64, f64)> = self
            .outcome
            .alerts
            .iter()
            .filter(|alert| alert.stream == **panel.stream)
            .map(|alert| {
                let from = times.at(alert.event_ms as f64);
                // An alert of a moment is a line of its own.
                let to = alert.cleared_event_ms.map_or(WIDTH - RIGHT, |cleared| times.at(cleared as f64));
                (from, to.max(from + 0.8))
            })
            .collect();
        shades.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut begun = f64::NEG_INFINITY;
        for (from, to) in merged(&shades) {
            canvas.rectangle(from, top, to - from, bottom - top, ALARM, 0.14);
        }
        for (from, _) in shades {
            if from - begun >= 1.0 {
                canvas.line(&[(from, top), (from, bottom)], line(ALARM.tinted(0.35), 1.0));
                begun = from;
            }
        }
    }

    /// The averages of windows, as steps.
    fn windows(&self, canvas: &mut dyn Canvas, panel: &Panel<'_>, times: &Scale, values: &Scale) {
        for (device, _) in &panel.lines {
            let Some(color) = panel.color(device) else { continue };
            let stroke = line(color.shaded(0.45), 1.8);
            let mut steps: Vec<(f64, f64)> = Vec::new();
            let mut rule = "";
            let mut end = f64::NEG_INFINITY;
            let of_line =
                |window: &&crate::replay::Window| window.device == ***device && window.stream == **panel.stream;
            let mut windows: Vec<_> = self.outcome.windows.iter().filter(of_line).collect();
            windows.sort_by(|a, b| (&a.rule, a.start_ms).cmp(&(&b.rule, b.start_ms)));
            for window in windows {
                let average = window.fields.iter().find(|(name, _)| name == "avg").map(|(_, value)| *value);
                let average = average.and_then(|average| in_unit(average, &window.unit, panel.unit));
                let (Some(average), Some(length)) = (average, window.length_ms) else { continue };
                let from = times.at(window.start_ms as f64);
                let to = times.at(window.start_ms.saturating_add(length) as f64);
                let y = values.at(average);
                if window.rule != rule || from > end + 0.5 {
                    canvas.line(&steps, stroke);
                    steps.clear();
                    rule = &window.rule;
                }
                steps.extend([(from, y), (to, y)]);
                end = to;
            }
            canvas.line(&steps, stroke);
        }
    }

    fn anomalies(&self, canvas: &mut dyn Canvas, panel: &Panel<'_>, times: &Scale, values: &Scale) {
        let mut drawn: BTreeSet<(i64, i64)> = BTreeSet::new();
        for anomaly in self.outcome.anomalies.iter().filter(|anomaly| anomaly.stream == **panel.stream) {
            let x = times.at(anomaly.at_ms as f64);
            let seen = anomaly.seen.and_then(|seen| in_unit(seen, &anomaly.unit, panel.unit));
            let y = values.at(seen.unwrap_or(panel.to));
            // Rings on top of each other say nothing more.
            if drawn.insert(((x / 2.0) as i64, (y / 2.0) as i64)) {
                canvas.ring(x, y, 4.5, line(FOUND, 1.6));
            }
        }
    }
}

/// A value in the unit of its panel; `None` where the units do not convert.
fn in_unit(value: f64, from: &Option<String>, to: Option<&Name>) -> Option<f64> {
    match (from, to) {
        (Some(from), Some(to)) if *from != **to => conversion(from, to).map(|conversion| conversion.apply(value)),
        _ => Some(value),
    }
}

/// Ranges without overlaps, in order.
fn merged(ranges: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut merged: Vec<(f64, f64)> = Vec::new();
    for (from, to) in ranges {
        match merged.last_mut() {
            Some(last) if *from <= last.1 => last.1 = last.1.max(*to),
            _ => merged.push((*from, *to)),
        }
    }
    merged
}

fn limits(canvas: &mut dyn Canvas, panel: &Panel<'_>, values: &Scale) {
    let right = WIDTH - RIGHT;
    let place = |limit: &&Limit| in_unit(limit.value, &limit.unit, panel.unit).map(|at| values.at(at));
    let lines: Vec<f64> = panel.limits.iter().filter_map(place).collect();
    let mut labels: Vec<f64> = Vec::new();
    for limit in &panel.limits {
        let Some(at) = in_unit(limit.value, &limit.unit, panel.unit) else { continue };
        let inside = values.holds(at);
        let y = values.at(at);
        if inside {
            let stroke = if limit.clears { line(ALARM.tinted(0.35), 1.0) } else { line(ALARM, 1.2) };
            canvas.line(&[(LEFT, y), (right, y)], Stroke { dashed: true, ..stroke });
        }
        // Below its line where above it would leave the panel or cross the next line.
        let crossed = lines.iter().any(|other| *other < y && y - other < 16.0);
        let label = y + if crossed || y - values.at(panel.to) < 14.0 { 12.0 } else { -4.0 };
        // Labels of limits that lie close together would cover each other.
        if labels.iter().any(|other| (other - label).abs() <= 12.0) {
            continue;
        }
        labels.push(label);
        let arrow = if inside {
            ""
        } else if at > values.to {
            "above: "
        } else {
            "below: "
        };
        let unit = panel.unit.map(|unit| format!(" {unit}")).unwrap_or_default();
        let ends = if limit.clears { "ends " } else { "" };
        let text = format!("{arrow}{ends}{} {}{unit}", limit.operator, number(at));
        canvas.text(right - 4.0, label, &text, 11.0, Anchor::End, ALARM);
    }
}

/// The points of a line, broken where readings were missing: each column goes
/// through its first, least, greatest and last value.
fn curve(columns: &[Bucket], times: &Scale, values: &Scale) -> Vec<Vec<(f64, f64)>> {
    let gap_ms = longest_step(columns);
    let mut lines: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut last_ms: Option<i64> = None;
    for bucket in columns {
        if last_ms.is_none_or(|last| bucket.first_ms.saturating_sub(last) > gap_ms) {
            lines.push(Vec::new());
        }
        last_ms = Some(bucket.last_ms);
        let Some(points) = lines.last_mut() else { continue };
        let (from, to) = (times.at(bucket.first_ms as f64), times.at(bucket.last_ms as f64));
        let middle = (from + to) / 2.0;
        points.push((from, values.at(bucket.first)));
        if bucket.first_ms < bucket.last_ms || bucket.min < bucket.max {
            let (low, high) = (values.at(bucket.min), values.at(bucket.max));
            // The shorter way: down first where the line leaves upwards.
            let order = if bucket.first <= bucket.last { [low, high] } else { [high, low] };
            points.extend(order.map(|y| (middle, y)));
            points.push((to, values.at(bucket.last)));
        }
    }
    lines
}

/// A step in time above which a line is broken: far above the usual one, and wide enough to be seen.
fn longest_step(columns: &[Bucket]) -> i64 {
    let mut steps: Vec<i64> = columns.windows(2).map(|pair| pair[1].first_ms.saturating_sub(pair[0].last_ms)).collect();
    if steps.is_empty() {
        return i64::MAX;
    }
    steps.sort_unstable();
    let usual = steps[steps.len() / 2];
    let whole = match (columns.first(), columns.last()) {
        (Some(first), Some(last)) => last.last_ms.saturating_sub(first.first_ms),
        _ => 0,
    };
    usual.saturating_mul(10).max(whole / 100)
}
