//! The general detector: many simple views of a series, each judged against its own
//! history, added up, and told once per episode.
//!
//! A view yields a strangeness (how far the value is from the recent median, the level
//! from the long mean, the variation from the usual one, the value from what this time
//! of day usually is, the last values from every shape seen, and so on); its
//! [`Tail`] says how rare that is. The evidence is the root of the weighted sum of
//! squares of these surprises, so that one very rare view is enough and several that
//! agree are more than each. A surprise fades over a few values, since the views of
//! one event do not peak together.
//!
//! An alarm opens an episode. While it lasts the evidence is not told again, so that
//! one anomaly gives one alarm however long it takes to become usual; every alarm also
//! raises what the next one needs, for a while.
//!
//! Must not know what an alarm leads to.

use grey_model::{Reader, WireError, Writer};

use crate::context::Context;
use crate::detector::Finding;
use crate::moments::{Mean, Moments};
use crate::number::{self, log10, ratio, read_finite, read_spread, read_time, score, spread, taken, write_time};
use crate::season::Season;
use crate::shapes::{Shapes, WINDOW};
use crate::tail::Tail;

/// Views, each with its own tail.
const VIEWS: usize = 17;
/// Recent values that are kept.
const RECENT: usize = WINDOW;

/// The default threshold, in evidence that opens an episode: a finding between the two
/// is worth a look, and in plain noise there is one in a thousand values or so.
const DEFAULT_ALARM: f64 = 1.25;
/// Equal values in a row from which a series that usually varies is stuck ..
const STUCK_MIN: u32 = 24;
/// .. if they are so many times the longest such row before.
const STUCK_TIMES: u32 = 4;
/// The surprise at a stuck series: enough for an alarm by default, also within the
/// episode of something weaker.
const STUCK_SURPRISE: f64 = 8.0;
/// Values below which a shorter history asks for no less evidence.
const CHANCES_MIN: u32 = 200;

/// What the detector is set to. One set serves every series.
#[derive(Debug, Clone)]
pub(crate) struct Parameters {
    /// Weights of the views' surprises, in the order of [`View`].
    pub(crate) weights: [f64; VIEWS],
    /// Values that the mean, the deviation and the mean step reach back.
    pub(crate) long: f64,
    /// Values at least before a view has a history to speak of.
    pub(crate) warm_up: u32,
    /// Deviations from the mean beyond which a value moves it no further.
    pub(crate) clip: f64,
    /// Values of the medium level.
    pub(crate) medium: f64,
    /// Values of the recent variation.
    pub(crate) variation: f64,
    /// Values over which the distance from the season's profile is averaged.
    pub(crate) residual: f64,
    /// The same, for the distance in mean departures of the half-hour.
    pub(crate) residual_scaled: f64,
    /// Least mean departure of a half-hour, as a share of that of all.
    pub(crate) departure_floor: f64,
    /// Strangenesses that a tail remembers.
    pub(crate) tail_max: u32,
    /// What is left of a surprise one value later.
    pub(crate) fade: f64,
    /// Share of a strangeness that has to be as rare: what barely exceeds the usual is
    /// rare in a series with hard bounds, but no anomaly.
    pub(crate) margin: f64,
    /// Evidence asked for per power of ten of values seen beyond 2,000.
    pub(crate) patience: f64,
    /// Evidence from which an episode opens.
    pub(crate) alarm: f64,
    /// An episode lasts this share of all values seen ..
    pub(crate) rest_share: f64,
    /// .. and at most so many values, after the last that is evidence for it.
    pub(crate) rest_max: u32,
    /// Evidence that each alarm adds to what the next needs ..
    pub(crate) fatigue: f64,
    /// .. fading over so many values.
    pub(crate) fatigue_reach: f64,
    /// Within an episode evidence is told again when it is so many times what was told.
    pub(crate) louder: f64,
    /// What is told of other evidence within an episode.
    pub(crate) told_again: f64,
}

/// Chosen on 25 files of the Numenta Anomaly Benchmark and on made-up series; see
/// `docs/design/detectors.md`.
pub(crate) const PARAMETERS: Parameters = Parameters {
    weights: [0.9, 0.9, 1.0, 1.0, 1.2, 1.2, 0.5, 1.0, 1.2, 1.2, 1.0, 1.0, 1.0, 1.0, 0.7, 0.7, 0.5],
    long: 16_000.0,
    warm_up: 60,
    clip: 10.0,
    medium: 16.0,
    variation: 48.0,
    residual: 4.0,
    residual_scaled: 4.0,
    departure_floor: 0.15,
    tail_max: 40_000,
    fade: 0.6,
    margin: 0.8,
    patience: 0.9,
    alarm: 3.7,
    rest_share: 0.025,
    rest_max: 300,
    fatigue: 0.2,
    fatigue_reach: 2_000.0,
    louder: 1.5,
    told_again: 0.3,
};

/// The views. Those with a direction come as a pair: above, below.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
enum View {
    /// From the median of the last five, in mean steps.
    Spike = 0,
    /// Mean of the last four from the long mean, in deviations.
    ShortLevel = 2,
    /// Medium mean from the long mean, in deviations.
    MediumLevel = 4,
    /// Recent mean step over the long one.
    Restless = 6,
    /// The long mean step over the recent one.
    Still = 7,
    /// Average distance from the season's profiles, in deviations.
    Season = 8,
    /// Distance of the last values from every known shape.
    Shape = 10,
    /// Length of the value's code given the two before.
    Order = 11,
    /// Beyond the range of all values so far.
    Beyond = 12,
    /// Average distance from the half-hour's mean, in its mean departures.
    SeasonScaled = 14,
    /// The step from the last value, in mean steps.
    Step = 16,
}

/// State of one series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct General {
    tails: [Tail; VIEWS],
    fading: [f64; VIEWS],
    long: Moments,
    step: Mean,
    recent_step: Mean,
    medium: Mean,
    season: Season,
    residual_day: Mean,
    residual_week: Mean,
    residual_scaled: Mean,
    departure: Mean,
    shapes: Shapes,
    context: Context,
    /// The newest value last.
    recent: [f64; RECENT],
    seen: u32,
    /// Values left of the episode.
    quiet: u32,
    /// The strongest evidence told in this episode.
    loudest: f64,
    /// Equal values in a row up to now, and at most before.
    row: u32,
    row_longest: u32,
    fatigue: f64,
    since_ms: Option<i64>,
    /// When the evidence last began to be more than half an alarm.
    rising_ms: Option<i64>,
}

impl Default for General {
    fn default() -> Self {
        Self {
            tails: std::array::from_fn(|_| Tail::default()),
            fading: [0.0; VIEWS],
            long: Moments::default(),
            step: Mean::default(),
            recent_step: Mean::default(),
            medium: Mean::default(),
            season: Season::default(),
            residual_day: Mean::default(),
            residual_week: Mean::default(),
            residual_scaled: Mean::default(),
            departure: Mean::default(),
            shapes: Shapes::default(),
            context: Context::default(),
            recent: [0.0; RECENT],
            seen: 0,
            quiet: 0,
            loudest: 0.0,
            row: 0,
            row_longest: 0,
            fatigue: 0.0,
            since_ms: None,
            rising_ms: None,
        }
    }
}

impl General {
    pub(crate) fn observe(&mut self, time_ms: i64, value: f64, set: &Parameters) -> Finding {
        let seen_value = value;
        let value = taken(value);
        let (strange, expected) = self.look(time_ms, value, set);
        let evidence = self.weigh(&strange, set);
        let expected = self.explain(expected, value, set);
        self.learn(time_ms, value, set);
        let told = self.tell(time_ms, evidence, set);
        Finding { score: score(told, DEFAULT_ALARM * set.alarm), expected, seen: seen_value, since_ms: self.since_ms }
    }

    /// How strange the value is in each view, and what the views expected.
    fn look(&mut self, time_ms: i64, value: f64, set: &Parameters) -> ([f64; VIEWS], Expected) {
        let mut strange = [0.0; VIEWS];
        let known = (self.seen as usize).min(RECENT);
        let deviation = spread(self.long.deviation(), self.long.mean);
        let step_usual = spread(self.step.mean, self.long.mean);
        let mean = self.long.mean;
        let mut median = value;

        if known > 0 {
            median = median_of(&self.recent[RECENT - known.min(5)..]);
            pair(&mut strange, View::Spike, ratio(value - median, step_usual) / 4.0);
            let step = (value - self.recent[RECENT - 1]).abs();
            if step == 0.0 {
                self.row = self.row.saturating_add(1);
            } else {
                self.row_longest = self.row_longest.max(self.row);
                self.row = 1;
            }
            strange[View::Step as usize] = ratio(step, step_usual) / 4.0;
            self.recent_step.add(step, set.variation);
        }
        self.recent.rotate_left(1);
        self.recent[RECENT - 1] = value;
        self.medium.add(value, set.medium);
        if known >= 4 {
            let short = self.recent[RECENT - 4..].iter().sum::<f64>() / 4.0;
            pair(&mut strange, View::ShortLevel, ratio(short - mean, deviation));
        }
        if f64::from(self.seen) > set.medium {
            pair(&mut strange, View::MediumLevel, ratio(self.medium.mean - mean, deviation));
        }
        if self.seen > 32 {
            let recent = self.recent_step.mean;
            strange[View::Restless as usize] = ratio(recent, step_usual);
            if recent < step_usual {
                strange[View::Still as usize] = step_usual / (recent + 0.02 * step_usual);
            }
        }
        let usual = self.look_at_season(time_ms, value, deviation, &mut strange, set);
        if known + 1 >= WINDOW && self.seen as usize >= WINDOW {
            let window = self.recent.map(|value| ratio(value - mean, deviation));
            strange[View::Shape as usize] = self.shapes.observe(window);
        }
        pair(&mut strange, View::Beyond, 4.0 * self.context.beyond(value));
        strange[View::Order as usize] = 0.25 * self.context.observe(value);
        (strange, Expected { mean, median, usual })
    }

    /// The views of the time of day; answers with what is usual at this time.
    fn look_at_season(
        &mut self,
        time_ms: i64,
        value: f64,
        deviation: f64,
        strange: &mut [f64; VIEWS],
        set: &Parameters,
    ) -> Option<f64> {
        let usual = self.season.usual(time_ms);
        let from_day = usual.day.map_or(0.0, |day| value - day);
        let from_week = usual.week.map_or(from_day, |week| value - week);
        self.residual_day.add(from_day, set.residual);
        self.residual_week.add(from_week, set.residual);
        // A day is strange only if neither profile accounts for it.
        let (day, week) = (self.residual_day.mean, self.residual_week.mean);
        let residual = if day.abs() < week.abs() { day } else { week };
        pair(strange, View::Season, ratio(residual, deviation));
        if usual.known {
            let floor = set.departure_floor * self.departure.mean;
            let departure = spread(usual.departure.max(floor), self.long.mean);
            self.residual_scaled.add(ratio(from_week, departure), set.residual_scaled);
            self.departure.add(from_week.abs(), set.fatigue_reach);
        }
        pair(strange, View::SeasonScaled, self.residual_scaled.mean);
        usual.week.or(usual.day)
    }

    /// Turns strangeness into surprise and adds it up.
    fn weigh(&mut self, strange: &[f64; VIEWS], set: &Parameters) -> f64 {
        let mut squares = 0.0;
        for (view, tail) in self.tails.iter_mut().enumerate() {
            let surprise = set.weights[view] * tail.surprise(set.margin * strange[view]);
            self.fading[view] = surprise.max(set.fade * self.fading[view]);
            squares += self.fading[view] * self.fading[view];
            tail.add(strange[view], set.tail_max);
        }
        // A row of equal values comes about too slowly to surprise a tail.
        if self.row_longest > 0 && self.row >= STUCK_MIN.max(STUCK_TIMES.saturating_mul(self.row_longest)) {
            squares += STUCK_SURPRISE * STUCK_SURPRISE;
        }
        // The longer the history, the more chances there were for something rare.
        let chances = f64::from(self.seen.clamp(CHANCES_MIN, set.tail_max)) + 1.0;
        let asked = set.patience * log10(chances / 2_000.0) + set.fatigue * self.fatigue;
        if self.seen < set.warm_up { 0.0 } else { (squares.sqrt() - asked).max(0.0) }
    }

    /// The expectation of the view that is most surprised.
    fn explain(&self, expected: Expected, value: f64, set: &Parameters) -> f64 {
        let most = |views: &[View]| {
            let of = |view: &View| {
                let at = *view as usize;
                let other = if set.weights.len() > at + 1 { self.fading[at + 1] } else { 0.0 };
                self.fading[at].max(other)
            };
            views.iter().map(of).fold(0.0, f64::max)
        };
        if self.seen == 0 {
            return value;
        }
        let by_season = most(&[View::Season, View::SeasonScaled]);
        let by_level = most(&[View::ShortLevel, View::MediumLevel]);
        let by_spike = most(&[View::Spike]).max(self.fading[View::Step as usize]);
        match expected.usual {
            Some(usual) if by_season > by_level && by_season > by_spike => usual,
            _ if by_level > by_spike => expected.mean,
            _ => expected.median,
        }
    }

    fn learn(&mut self, time_ms: i64, value: f64, set: &Parameters) {
        self.season.add(time_ms, value);
        if self.seen > 0 {
            self.step.add((value - self.recent[RECENT - 2]).abs(), set.long);
        }
        let deviation = spread(self.long.deviation(), self.long.mean);
        let reach = set.clip * deviation;
        let held =
            if self.long.count > 50 { value.clamp(self.long.mean - reach, self.long.mean + reach) } else { value };
        self.long.add(held, set.long);
        self.seen = self.seen.saturating_add(1);
    }

    /// What is told of the evidence: all of it once, little within an episode.
    fn tell(&mut self, time_ms: i64, evidence: f64, set: &Parameters) -> f64 {
        let hot = evidence >= set.alarm;
        let opens = hot && self.quiet == 0;
        self.fatigue -= self.fatigue / set.fatigue_reach;
        self.rising_ms = if evidence >= 0.5 * set.alarm { self.rising_ms.or(Some(time_ms)) } else { None };
        let louder = hot && evidence >= set.louder * self.loudest;
        let told = if self.quiet == 0 || louder { evidence } else { set.told_again * evidence };
        if opens || louder {
            self.loudest = evidence;
        }
        self.quiet = self.quiet.saturating_sub(1);
        if hot {
            self.quiet = ((f64::from(self.seen) * set.rest_share) as u32).clamp(1, set.rest_max);
        }
        if opens {
            self.fatigue += 1.0;
            self.since_ms = self.rising_ms;
        } else if self.quiet == 0 {
            self.since_ms = None;
        }
        told
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (tail, fading) in self.tails.iter().zip(self.fading) {
            tail.write(out);
            out.extend(fading.to_le_bytes());
        }
        self.long.write(out);
        for mean in self.means() {
            mean.write(out);
        }
        self.season.write(out);
        self.shapes.write(out);
        self.context.write(out);
        for value in self.recent {
            out.extend(value.to_le_bytes());
        }
        out.put_varint(u64::from(self.seen));
        out.put_varint(u64::from(self.quiet));
        out.put_varint(u64::from(self.row));
        out.put_varint(u64::from(self.row_longest));
        out.extend(self.loudest.to_le_bytes());
        out.extend(self.fatigue.to_le_bytes());
        write_time(self.since_ms, out);
        write_time(self.rising_ms, out);
    }

    fn means(&self) -> [&Mean; 7] {
        [
            &self.step,
            &self.recent_step,
            &self.medium,
            &self.residual_day,
            &self.residual_week,
            &self.residual_scaled,
            &self.departure,
        ]
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut general = Self::default();
        for (tail, fading) in general.tails.iter_mut().zip(&mut general.fading) {
            *tail = Tail::read(reader)?;
            *fading = read_spread(reader, "surprise")?;
        }
        general.long = Moments::read(reader)?;
        general.step = Mean::read(reader)?;
        general.recent_step = Mean::read(reader)?;
        general.medium = Mean::read(reader)?;
        general.residual_day = Mean::read(reader)?;
        general.residual_week = Mean::read(reader)?;
        general.residual_scaled = Mean::read(reader)?;
        general.departure = Mean::read(reader)?;
        general.season = Season::read(reader)?;
        general.shapes = Shapes::read(reader)?;
        general.context = Context::read(reader)?;
        for value in &mut general.recent {
            *value = read_finite(reader, "recent value")?;
            if value.abs() > number::VALUE_MAX {
                return Err(reader.invalid("recent value"));
            }
        }
        general.seen = reader.count("values seen", u64::from(u32::MAX))? as u32;
        general.quiet = reader.count("rest of an episode", u64::from(u32::MAX))? as u32;
        general.row = reader.count("equal values", u64::from(u32::MAX))? as u32;
        general.row_longest = reader.count("equal values", u64::from(u32::MAX))? as u32;
        general.loudest = read_spread(reader, "loudest evidence")?;
        general.fatigue = read_spread(reader, "fatigue")?;
        general.since_ms = read_time(reader)?;
        general.rising_ms = read_time(reader)?;
        Ok(general)
    }
}

/// What the views expected before the value was learnt.
#[derive(Debug, Clone, Copy)]
struct Expected {
    mean: f64,
    median: f64,
    usual: Option<f64>,
}

/// Puts a departure into the first of a pair of views if it is upward, else the second.
fn pair(strange: &mut [f64; VIEWS], view: View, departure: f64) {
    let above = view as usize;
    strange[if departure > 0.0 { above } else { above + 1 }] = departure.abs();
}

/// The upper median of at most five values.
fn median_of(values: &[f64]) -> f64 {
    let mut sorted = [0.0; 5];
    let sorted = &mut sorted[..values.len().min(5)];
    sorted.copy_from_slice(&values[values.len() - sorted.len()..]);
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
