//! The sections of the five types of rules.

use grey_config::{Duration, Severity, choice, section};

use super::action::Action;
use super::condition::Condition;
use super::syntax::{GroupBy, Quantity, RateLimit, Sample, Texts, WindowBy};

choice! {
    /// A number that describes a window.
    pub enum Field {
        /// Arithmetic mean.
        Avg = "avg",
        /// Smallest value.
        Min = "min",
        /// Largest value.
        Max = "max",
        /// How many readings.
        Count = "count",
        /// Sum of the values.
        Sum = "sum",
        /// The first value.
        First = "first",
        /// The last value.
        Last = "last",
        /// Standard deviation of the values (of the population, not of a sample).
        Stddev = "stddev",
        /// Change from the first to the last value, per second.
        Rate = "rate",
        /// Median, to 1 % of the value.
        P50 = "p50",
        /// 95th percentile, to 1 % of the value.
        P95 = "p95",
        /// 99th percentile, to 1 % of the value.
        P99 = "p99",
    }
}

choice! {
    /// How readings are cut into windows.
    #[derive(Default)]
    pub enum WindowKind {
        /// One after the other, each as long as `interval`.
        #[default]
        Tumbling = "tumbling",
        /// As long as `interval`, a new one beginning `every` so often.
        Hopping = "hopping",
        /// The last `interval`, sent at most `every` so often.
        Sliding = "sliding",
        /// Until nothing came for `gap`.
        Session = "session",
        /// Every `size` readings.
        Count = "count",
    }
}

choice! {
    /// A detector that needs no training.
    #[derive(Default)]
    pub enum DetectorKind {
        /// Distance from the median in median absolute deviations.
        Robust = "robust",
        /// Distance from an exponentially weighted mean.
        Ewma = "ewma",
        /// Cumulative sums: small lasting shifts.
        Cusum = "cusum",
        /// Distance from the same time of earlier days.
        Seasonal = "seasonal",
        /// One for most signals.
        #[default]
        General = "general",
    }
}

choice! {
    /// What samples are multiplied with before they are transformed.
    #[derive(Default)]
    pub enum SpectrumWindow {
        /// Hann: good for most signals.
        #[default]
        Hann = "hann",
        /// Hamming.
        Hamming = "hamming",
        /// Flat top: exact amplitudes.
        FlatTop = "flat_top",
        /// Nothing.
        Rectangular = "rectangular",
    }
}

section! {
    /// Alerts when a condition begins and ceases to hold, once each, for each device.
    pub struct ThresholdRule {
        /// Its name in alerts. Default: the type and the position in the list, such as threshold-1.
        pub name: Option<String> = None,
        /// When it triggers, such as temperature > 85°C.
        pub condition: Condition,
        /// When a firing alert ends, such as temperature < 80°C. Default: when the condition does not hold.
        pub clear: Option<Condition> = None,
        /// How long the condition must hold before the alert fires.
        pub hold as "for": Duration = Duration::default(),
        /// What has an alert of its own: device, site, or tag:NAME for each value of an attribute.
        pub group_by: GroupBy = GroupBy::Device,
        /// The streams that a condition without a stream's name looks at; * stands for any text. Default: all.
        pub streams: Vec<String> = Vec::new(),
        /// How urgent its alerts are.
        pub severity: Severity = Severity::Warning,
        /// How long after an alert has ended none begins.
        pub cooldown: Duration = Duration::default(),
        /// Alerts that may begin for each group in a time, such as 10/1h. Those beyond are counted.
        pub rate_limit: Option<RateLimit> = None,
        /// Attributes that its alerts carry.
        pub tags: Texts = Texts::default(),
        /// What it does.
        pub action: Action = Action::LocalAlert,
        /// What it does, where that is several things.
        pub actions: Vec<Action> = Vec::new(),
    }
}

section! {
    /// Flags readings that a detector or a model finds unusual.
    pub struct AnomalyRule {
        /// Its name. Default: the type and the position in the list, such as anomaly-2.
        pub name: Option<String> = None,
        /// The model's name.
        pub model: Option<String> = None,
        /// A detector that needs no model.
        pub detector: Option<DetectorKind> = None,
        /// The streams that a detector watches; * stands for any text. Default: all.
        pub streams: Vec<String> = Vec::new(),
        /// From which score, 0 to 1, a reading is unusual. Default: the detector's or the model's own.
        pub score: Option<f64> = None,
        /// How urgent its findings are.
        pub severity: Severity = Severity::Warning,
        /// How long after a finding has ended none begins.
        pub cooldown: Duration = Duration::default(),
        /// Findings that may begin for each series in a time, such as 10/1h. Those beyond are counted.
        pub rate_limit: Option<RateLimit> = None,
        /// Attributes that its findings carry.
        pub tags: Texts = Texts::default(),
        /// What it does.
        pub action: Action = Action::FlagAndUpload,
        /// What it does, where that is several things.
        pub actions: Vec<Action> = Vec::new(),
    }
}

section! {
    /// Summarises streams over windows of the devices' time, aligned to the Unix epoch.
    pub struct AggregateRule {
        /// Its name. Default: the type and the position in the list, such as aggregate-3.
        pub name: Option<String> = None,
        /// How readings are cut into windows.
        pub window: WindowKind = WindowKind::Tumbling,
        /// Length of a window, 100ms to 7d.
        pub interval: Option<Duration> = None,
        /// How often a hopping or sliding window is sent. Divides the interval.
        pub every: Option<Duration> = None,
        /// The pause that ends a session.
        pub gap: Option<Duration> = None,
        /// Readings of a count window.
        pub size: Option<u32> = None,
        /// What has windows of its own: device, site, or tag:NAME; streams are never mixed.
        pub by: WindowBy = WindowBy::default(),
        /// The streams that are summarised; * stands for any text. Default: all.
        pub streams: Vec<String> = Vec::new(),
        /// Which readings count.
        pub filter as "where": Option<Condition> = None,
        /// The numbers that describe a window.
        pub fields: Vec<Field> = vec![Field::Avg, Field::Min, Field::Max, Field::Count],
        /// How much later than others a reading may come. Default: a tenth of the interval, at most 2s.
        pub lateness: Option<Duration> = None,
        /// How long a source must be silent before the site's own time ends its windows.
        pub idle: Duration = Duration::from_secs(1),
        /// How far a device's time may be ahead of the site's.
        pub ahead_max: Duration = Duration::from_secs(60),
        /// The stream that readings go to that came too late. Default: the stream's name and .late.
        pub late: Option<String> = None,
    }
}

section! {
    /// Leaves readings at the site that say nothing new. Other rules see them all the same.
    pub struct FilterRule {
        /// Its name. Default: the type and the position in the list, such as filter-4.
        pub name: Option<String> = None,
        /// The streams that are filtered; * stands for any text. Default: all.
        pub streams: Vec<String> = Vec::new(),
        /// Which readings are filtered.
        pub filter as "where": Option<Condition> = None,
        /// A reading that repeats the last one's value within this time stays.
        pub deduplicate: Option<Duration> = None,
        /// A reading that differs by no more than this from the last one forwarded stays.
        pub deadband: Option<Quantity> = None,
        /// A reading goes on after this time, whatever it says.
        pub max_interval: Option<Duration> = None,
        /// Which share goes on, such as 10%, or every tenth: {every: 10}.
        pub sample: Option<Sample> = None,
    }
}

section! {
    /// A band of frequencies.
    pub struct BandSpec {
        /// Its name: the derived stream is band.NAME.
        pub name: String,
        /// Lower end, Hz.
        pub from: f64,
        /// Upper end, Hz.
        pub to: f64,
    }
}

section! {
    /// Limits of a derived stream, as ISO 20816 has them for zones.
    pub struct AlarmSpec {
        /// The derived stream, such as velocity_rms.
        pub field: String,
        /// Over it a warning is raised.
        pub warning: Option<f64> = None,
        /// Over it a critical alert is raised.
        pub critical: Option<f64> = None,
    }
}

section! {
    /// Turns vibration into derived streams: root mean square, peaks, energy of bands.
    pub struct SpectrumRule {
        /// Its name. Default: the type and the position in the list, such as spectrum-5.
        pub name: Option<String> = None,
        /// The streams, arrays of samples or fast single values; * stands for any text. Default: all arrays.
        pub streams: Vec<String> = Vec::new(),
        /// Samples a second.
        pub sample_rate: f64,
        /// Samples of one transform, a power of two from 64 to 65536.
        pub size: u32 = 1024,
        /// How much of a transform's samples the next one uses again, 0 to 0.9.
        pub overlap: f64 = 0.0,
        /// What samples are multiplied with.
        pub window: SpectrumWindow = SpectrumWindow::Hann,
        /// Bands whose energy is derived.
        pub bands: Vec<BandSpec> = Vec::new(),
        /// How many peaks are derived, 0 to 8.
        pub peaks: u32 = 1,
        /// Derives the velocity of an acceleration, 10 to 1000 Hz, mm/s.
        pub velocity: bool = false,
        /// Limits of derived streams.
        pub alarms: Vec<AlarmSpec> = Vec::new(),
    }
}
