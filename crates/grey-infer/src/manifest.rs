//! The manifest: what a model is asked, how its answer is read, and which file
//! and build it needs.
//!
//! Everything that can be said without the model file is checked here. It must
//! not know where it was read from.

use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::version::{Version, meets};

/// Longest manifest in bytes: three lists of [`FEATURES_MAX`] numbers fit.
pub const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most inputs of a model.
pub const INPUTS_MAX: usize = 64;
/// Most numbers of one input: the longest vector value of an event.
pub const FEATURES_MAX: usize = grey_model::limits::VECTOR_LEN_MAX;
/// Most rows of a window.
pub const WINDOW_MAX: usize = 4_096;
/// Most numbers that one inference takes: a colour frame of 256 x 256 and a little more.
pub const INPUT_LEN_MAX: usize = 262_144;
/// Most classes.
pub const LABELS_MAX: usize = 1_024;
/// Longest name of a model, a file or a label in bytes.
const NAME_BYTES_MAX: usize = 128;
/// The version of the manifest's form.
const FORMAT: u32 = 1;

/// What runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// An ONNX graph; needs a build with the feature `onnx`.
    Onnx,
    /// Dense layers.
    Mlp,
    /// Dense layers that give their input back; what they cannot give back is unusual.
    Autoencoder,
    /// Random trees that isolate what is unusual (Liu, Ting and Zhou, 2008).
    IsolationForest,
}

impl Runtime {
    /// The name used in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Onnx => "onnx",
            Self::Mlp => "mlp",
            Self::Autoencoder => "autoencoder",
            Self::IsolationForest => "isolation_forest",
        }
    }
}

/// One number for all features, or one for each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, or a list with one number for each feature")]
pub enum Numbers {
    /// The same for all.
    One(f64),
    /// One for each feature.
    Each(Vec<f64>),
}

impl Numbers {
    fn get(&self, feature: usize) -> Option<f64> {
        match self {
            Self::One(number) => Some(*number),
            Self::Each(numbers) => numbers.get(feature).copied(),
        }
    }
}

/// How an input is scaled before the model sees it: `(x - mean) / scale`, or `(x - min) / (max - min)`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// With `scale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Numbers>,
    /// Over 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<Numbers>,
    /// With `max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Numbers>,
    /// Over `min`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Numbers>,
}

/// One stream that the model sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its name, or `stream.field` of a derived one.
    pub stream: String,
    /// Unit that the values are converted to first; as they come without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Numbers in one value: 1 for a scalar, `n` for a vector of exactly `n`.
    #[serde(default = "one")]
    pub features: usize,
    /// Scaling; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
}

/// How the model's output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// Output `index` is a score from 0 (usual) to 1 (unusual).
    Score,
    /// Output `index` is the probability of what is looked for, 0 to 1.
    Probability,
    /// The outputs are the scaled input given back: the mean squared difference counts.
    ReconstructionError,
    /// The outputs are probabilities of classes; class `index` is the good one.
    Class,
}

/// How the model's output is read, and from which value on it is an anomaly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// What the outputs are.
    pub kind: OutputKind,
    /// Which output counts; for classes, which one is the good one.
    #[serde(default)]
    pub index: usize,
    /// An anomaly from this value on: of the score or probability, of the mean squared difference, or of 1 minus the
    /// probability of the good class.
    pub threshold: f64,
    /// Names of the classes, in the order of the outputs; for other kinds empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// What the model needs around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Versions of Grey, for example `>=0.1` or `>=0.1, <2`.
    pub grey: String,
}

/// What a model is asked, how its answer is read, and which file and build it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this form: 1.
    pub format: u32,
    /// The model's name; the folder has the same.
    pub name: String,
    /// The model's version; the folder has the same.
    pub version: String,
    /// What runs it.
    pub runtime: Runtime,
    /// Name of the model file, beside the manifest.
    pub file: String,
    /// SHA-256 of the model file, 64 lower-case hex digits.
    pub digest: String,
    /// Streams that it sees.
    pub inputs: Vec<Input>,
    /// Rows that one inference takes; a row has one value of each input.
    #[serde(default = "one")]
    pub window: usize,
    /// Rows from one inference to the next.
    #[serde(default = "one")]
    pub every: usize,
    /// How the output is read.
    pub output: Output,
    /// What the model needs around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<Requires>,
}

fn one() -> usize {
    1
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ModelError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            let (found, limit) = (bytes.len() as u64, MANIFEST_BYTES_MAX as u64);
            return Err(ModelError::TooLarge { what: "manifest in bytes", found, limit });
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| ModelError::Manifest { problem: error.to_string() })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest as JSON, with a newline at the end.
    pub fn to_json(&self) -> String {
        // Fails only for maps with keys that are no strings, of which there are none.
        serde_json::to_string_pretty(self).map(|text| text + "\n").unwrap_or_default()
    }

    /// Numbers in one row: the features of all inputs.
    pub fn row_len(&self) -> usize {
        self.inputs.iter().fold(0, |sum: usize, input| sum.saturating_add(input.features))
    }

    /// Numbers in one inference: rows from the oldest to the newest, in each the inputs in the manifest's order, in
    /// each input its features.
    pub fn input_len(&self) -> usize {
        self.row_len().saturating_mul(self.window)
    }

    /// Checks every bound and that the parts fit each other.
    pub fn check(&self) -> Result<(), ModelError> {
        if self.format != FORMAT {
            let problem = format!("{} is not known, this build reads {FORMAT}", self.format);
            return Err(ModelError::key("format", problem));
        }
        if !is_model_name(&self.name) {
            return Err(ModelError::key("name", named(&self.name, NAME_RULE)));
        }
        if Version::parse(&self.version).is_none() {
            let problem = named(&self.version, "use numbers with points between, for example 2 or 1.4.0-rc.1");
            return Err(ModelError::key("version", problem));
        }
        if !is_model_name(&self.file) || self.file == crate::MANIFEST_FILE {
            let problem = named(&self.file, "must be the name of a file beside the manifest, without a path");
            return Err(ModelError::key("file", problem));
        }
        if !is_digest(&self.digest) {
            return Err(ModelError::key("digest", named(&self.digest, "use the SHA-256 as 64 lower-case hex digits")));
        }
        self.check_inputs()?;
        self.check_output()?;
        match &self.requires {
            Some(requires) => check_requires(&requires.grey),
            None => Ok(()),
        }
    }

    fn check_inputs(&self) -> Result<(), ModelError> {
        if self.inputs.is_empty() || self.inputs.len() > INPUTS_MAX {
            return Err(ModelError::key("inputs", format!("{} are given, use 1 to {INPUTS_MAX}", self.inputs.len())));
        }
        for (i, input) in self.inputs.iter().enumerate() {
            let key = |name: &str| format!("inputs[{i}].{name}");
            let stream = input.stream.as_str();
            if stream.is_empty()
                || stream.len() > grey_model::limits::NAME_BYTES_MAX
                || stream.contains(char::is_control)
            {
                return Err(ModelError::key(key("stream"), named(stream, "use the name of a stream")));
            }
            if self.inputs[..i].iter().any(|other| other.stream == input.stream) {
                return Err(ModelError::key(key("stream"), named(stream, "stands twice")));
            }
            if let Some(unit) = &input.unit
                && (unit.is_empty() || unit.len() > grey_model::limits::UNIT_BYTES_MAX)
            {
                return Err(ModelError::key(key("unit"), named(unit, "use a unit, or leave the key out")));
            }
            if !(1..=FEATURES_MAX).contains(&input.features) {
                return Err(ModelError::key(key("features"), format!("{} is not 1 to {FEATURES_MAX}", input.features)));
            }
            if let Some(scaling) = &input.scaling {
                scaling.steps(input.features).map_err(|problem| ModelError::key(key("scaling"), problem))?;
            }
        }
        for (key, found, limit) in [("window", self.window, WINDOW_MAX), ("every", self.every, WINDOW_MAX)] {
            if !(1..=limit).contains(&found) {
                return Err(ModelError::key(key, format!("{found} is not 1 to {limit}")));
            }
        }
        if self.input_len() > INPUT_LEN_MAX {
            let (found, limit) = (self.input_len() as u64, INPUT_LEN_MAX as u64);
            return Err(ModelError::TooLarge { what: "input (window times features) in numbers", found, limit });
        }
        Ok(())
    }

    fn check_output(&self) -> Result<(), ModelError> {
        let Output { kind, index, threshold, labels } = &self.output;
        let wanted = match self.runtime {
            Runtime::Autoencoder => Some(OutputKind::ReconstructionError),
            Runtime::IsolationForest => Some(OutputKind::Score),
            Runtime::Mlp | Runtime::Onnx => None,
        };
        if wanted.is_some_and(|wanted| wanted != *kind) {
            let name = if self.runtime == Runtime::Autoencoder { "reconstruction_error" } else { "score" };
            let problem = format!("the runtime {} gives only {name}", self.runtime.as_str());
            return Err(ModelError::key("output.kind", problem));
        }
        let top = if *kind == OutputKind::ReconstructionError { f64::MAX } else { 1.0 };
        // Written so that a NaN is refused.
        if !(*threshold > 0.0 && *threshold <= top) {
            let range = if top == 1.0 { "over 0, at most 1" } else { "finite, over 0" };
            return Err(ModelError::key("output.threshold", format!("{threshold} is not {range}")));
        }
        if labels.len() > LABELS_MAX || labels.iter().any(|label| label.is_empty() || label.len() > NAME_BYTES_MAX) {
            let problem = format!("use up to {LABELS_MAX} names of 1 to {NAME_BYTES_MAX} bytes");
            return Err(ModelError::key("output.labels", problem));
        }
        match kind {
            OutputKind::Class if labels.len() < 2 => {
                Err(ModelError::key("output.labels", "classes need a name each, at least two"))
            }
            OutputKind::Class if *index >= labels.len() => {
                Err(ModelError::key("output.index", format!("{index} is no class, there are {}", labels.len())))
            }
            OutputKind::Class => Ok(()),
            _ if !labels.is_empty() => Err(ModelError::key("output.labels", "only the kind `class` has labels")),
            OutputKind::ReconstructionError if *index != 0 => {
                Err(ModelError::key("output.index", "a reconstruction has no index, leave it out"))
            }
            _ => Ok(()),
        }
    }
}

/// What `(x - offset) * factor` has to be for one feature.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) offset: f64,
    pub(crate) factor: f64,
}

impl Step {
    pub(crate) const NONE: Self = Self { offset: 0.0, factor: 1.0 };
}

impl Scaling {
    /// One step for each feature, or what is wrong.
    pub(crate) fn steps(&self, features: usize) -> Result<Vec<Step>, String> {
        let (offset, other, range) = match (&self.mean, &self.scale, &self.min, &self.max) {
            (Some(mean), Some(scale), None, None) => (mean, scale, false),
            (None, None, Some(min), Some(max)) => (min, max, true),
            _ => return Err("give either mean and scale, or min and max".to_owned()),
        };
        for numbers in [offset, other] {
            if let Numbers::Each(numbers) = numbers
                && numbers.len() != features
            {
                return Err(format!("{} numbers for {features} features", numbers.len()));
            }
        }
        let step = |feature: usize| {
            let (offset, other) = (offset.get(feature)?, other.get(feature)?);
            let width = if range { other - offset } else { other };
            let factor = 1.0 / width;
            (offset.is_finite() && width > 0.0 && factor.is_finite() && factor > 0.0).then_some(Step { offset, factor })
        };
        let wrong = |feature: usize| {
            let rule = if range { "max must be over min" } else { "scale must be over 0" };
            format!("feature {feature}: {rule}, all numbers finite and not extreme")
        };
        (0..features).map(|feature| step(feature).ok_or_else(|| wrong(feature))).collect()
    }
}

fn check_requires(requirement: &str) -> Result<(), ModelError> {
    let found = env!("CARGO_PKG_VERSION");
    let met = Version::parse(found).and_then(|version| meets(requirement, &version));
    match met {
        Some(true) => Ok(()),
        Some(false) => Err(ModelError::Requires { required: requirement.to_owned(), found: found.to_owned() }),
        None => Err(ModelError::key("requires.grey", named(requirement, "use for example \">=0.1\""))),
    }
}

const NAME_RULE: &str = "use 1 to 128 letters, digits, `_`, `-` and `.`, and no `.` at the begin";

fn named(value: &str, problem: &str) -> String {
    let short: String = value.chars().take(NAME_BYTES_MAX).collect();
    format!("{short:?}: {problem}")
}

/// Whether a text can be the name of a model, and so of a folder or file: never a path.
pub(crate) fn is_model_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.starts_with('.') && text.chars().all(fits)
}

/// Whether a text is a SHA-256 in lower-case hex, and so safe as the name of a folder.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
