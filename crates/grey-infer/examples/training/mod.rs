//! What the training tools share: their command line, recordings as rows and
//! windows, scaling, and writing a version of a model.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use grey_infer::{Directory, Input, Library as _, Manifest, Numbers, Output, OutputKind, Requires, Runtime, Scaling};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// Options as `--key value`.
pub(crate) struct Options(BTreeMap<String, String>);

impl Options {
    /// Reads the command line; prints `usage` and ends the program on `--help`.
    pub(crate) fn read(usage: &str, known: &[&str]) -> Result<Self, Failure> {
        let (mut options, mut arguments) = (BTreeMap::new(), std::env::args().skip(1));
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                println!("{usage}");
                std::process::exit(0);
            }
            let key = argument.strip_prefix("--").filter(|key| known.contains(key));
            let key = key.ok_or_else(|| format!("unknown option {argument}, use --{}", known.join(", --")))?;
            let value = arguments.next().ok_or_else(|| format!("--{key} needs a value"))?;
            options.insert(key.to_owned(), value);
        }
        Ok(Self(options))
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, Failure> {
        Ok(self.0.get(key).ok_or_else(|| format!("--{key} is needed"))?)
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> Result<T, Failure> {
        let Some(text) = self.0.get(key) else { return Ok(default) };
        text.parse().map_err(|_| format!("--{key} {text} is no number of its kind").into())
    }
}

/// Readings of one stream, device by device in the order of their lines.
pub(crate) struct Recording {
    pub(crate) devices: BTreeMap<String, Vec<Vec<f32>>>,
    pub(crate) features: usize,
    pub(crate) unit: Option<String>,
}

impl Recording {
    /// Reads NDJSON (one object a line with `value`, and if it has them `stream`, `device`, `unit`) or CSV whose header
    /// names a column `value`, and if it has them the same others. Values are numbers, in NDJSON also lists of them.
    pub(crate) fn read(options: &Options) -> Result<Self, Failure> {
        let (path, stream) = (options.text("input")?, options.text("stream")?);
        let only = options.text("device").ok();
        let mut recording = Self { devices: BTreeMap::new(), features: 0, unit: None };
        let mut header: Option<Vec<String>> = None;
        let file = fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line?;
            let place = |error: Failure| format!("{path}:{}: {error}", number + 1);
            if line.trim().is_empty() {
                continue;
            }
            if line.trim_start().starts_with('{') {
                recording.take_json(&line, stream, only).map_err(place)?;
            } else if let Some(names) = &header {
                recording.take_csv(&line, names, stream, only).map_err(place)?;
            } else {
                header = Some(line.split(',').map(|name| name.trim().to_lowercase()).collect());
            }
        }
        if recording.devices.is_empty() {
            return Err(format!("{path} has no readings of {stream}").into());
        }
        Ok(recording)
    }

    fn take_json(&mut self, line: &str, stream: &str, only: Option<&str>) -> Result<(), Failure> {
        let event: serde_json::Value = serde_json::from_str(line)?;
        let device = event["device"].as_str().unwrap_or_default();
        if event["stream"].as_str().is_some_and(|of| of != stream) || only.is_some_and(|only| only != device) {
            return Ok(());
        }
        let numbers = match event["value"].as_array() {
            Some(list) => list.iter().map(serde_json::Value::as_f64).collect::<Option<Vec<f64>>>(),
            None => event["value"].as_f64().map(|number| vec![number]),
        };
        let numbers = numbers.ok_or("value is neither a number nor a list of numbers")?;
        self.take(device, event["unit"].as_str(), &numbers)
    }

    fn take_csv(&mut self, line: &str, names: &[String], stream: &str, only: Option<&str>) -> Result<(), Failure> {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let cell = |name: &str| names.iter().position(|n| n == name).and_then(|i| cells.get(i).copied());
        let device = cell("device").unwrap_or_default();
        if cell("stream").is_some_and(|of| of != stream) || only.is_some_and(|only| only != device) {
            return Ok(());
        }
        let value: f64 = cell("value").ok_or("no column `value`")?.parse()?;
        self.take(device, cell("unit").filter(|unit| !unit.is_empty()), &[value])
    }

    fn take(&mut self, device: &str, unit: Option<&str>, numbers: &[f64]) -> Result<(), Failure> {
        let first = self.devices.is_empty();
        if first {
            (self.features, self.unit) = (numbers.len(), unit.map(str::to_owned));
        }
        if numbers.len() != self.features || numbers.iter().any(|number| !(*number as f32).is_finite()) {
            return Err(format!(
                "{} numbers, the first reading has {}, all must be finite",
                numbers.len(),
                self.features
            )
            .into());
        }
        if self.unit.as_deref() != unit {
            return Err(
                format!("unit {unit:?}, the first reading has {:?}: convert the recording first", self.unit).into()
            );
        }
        self.devices.entry(device.to_owned()).or_default().push(numbers.iter().map(|number| *number as f32).collect());
        Ok(())
    }

    /// Mean and deviation of each feature; a feature that does not vary has a deviation of 1.
    pub(crate) fn scaling(&self) -> Scaling {
        let rows = || self.devices.values().flatten();
        let count = rows().count() as f64;
        let mean = |f: usize| rows().map(|row| f64::from(row[f])).sum::<f64>() / count;
        let means: Vec<f64> = (0..self.features).map(mean).collect();
        let deviation =
            |f: usize| (rows().map(|row| (f64::from(row[f]) - means[f]).powi(2)).sum::<f64>() / count).sqrt();
        let floor =
            |(f, deviation): (usize, f64)| if deviation > 1e-9 * (1.0 + means[f].abs()) { deviation } else { 1.0 };
        let scales = (0..self.features).map(|f| floor((f, deviation(f)))).collect();
        Scaling { mean: Some(Numbers::Each(means)), scale: Some(Numbers::Each(scales)), min: None, max: None }
    }

    /// Windows of `rows` consecutive readings of one device, as one inference takes them.
    pub(crate) fn windows(&self, rows: usize) -> Vec<Vec<f32>> {
        let of_device =
            |readings: &'_ Vec<Vec<f32>>| readings.windows(rows).map(|rows| rows.concat()).collect::<Vec<_>>();
        self.devices.values().flat_map(of_device).collect()
    }
}

/// A window as the model sees it.
pub(crate) fn scaled(window: &[f32], scaling: &Scaling) -> Vec<f32> {
    let (Some(Numbers::Each(mean)), Some(Numbers::Each(scale))) = (&scaling.mean, &scaling.scale) else {
        return window.to_vec();
    };
    let one = |(i, x): (usize, &f32)| ((f64::from(*x) - mean[i % mean.len()]) / scale[i % mean.len()]) as f32;
    window.iter().enumerate().map(one).collect()
}

/// Deterministic numbers: SplitMix64 (Steele, Lea, Flood, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.uniform() * bound as f64) as usize
    }

    /// From 0 to below 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The value that a share of `part` of the values does not exceed.
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}

/// Writes model and manifest to `<out>/<name>/<version>/`, loads them as the edge will, and says what was made.
pub(crate) fn write(
    options: &Options,
    recording: &Recording,
    scaling: Scaling,
    (runtime, kind): (Runtime, OutputKind),
    (window, threshold): (usize, f64),
    file: &[u8],
) -> Result<(), Failure> {
    let (name, version, out) = (options.text("name")?, options.text("version")?, PathBuf::from(options.text("out")?));
    let manifest = Manifest {
        format: 1,
        name: name.to_owned(),
        version: version.to_owned(),
        runtime,
        file: "model.grym".to_owned(),
        digest: grey_infer::digest_of(file),
        inputs: vec![Input {
            stream: options.text("stream")?.to_owned(),
            unit: recording.unit.clone(),
            features: recording.features,
            scaling: Some(scaling),
        }],
        window,
        every: options.number("every", 1)?,
        output: Output { kind, index: 0, threshold, labels: Vec::new() },
        requires: Some(Requires { grey: ">=0.1".to_owned() }),
    };
    manifest.check()?;
    let folder = out.join(name).join(version);
    if folder.exists() {
        return Err(format!("{} is there already: choose another --version", folder.display()).into());
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("model.grym"), file)?;
    fs::write(folder.join("manifest.json"), manifest.to_json())?;

    let directory = Directory::open(&out)?;
    let versions = directory.versions(name).into_iter().flatten();
    let model = versions.filter(|model| model.version == version).map(|model| directory.load(&model)).next();
    let model = model.ok_or("the version that was written is not found")??;
    let (mut found, mut scratch) = (0, Vec::new());
    let windows = recording.windows(window);
    for input in &windows {
        found += usize::from(model.infer(input, &mut scratch)?.anomalous);
    }
    println!("{}: {} bytes, threshold {threshold:.4}", folder.display(), file.len());
    println!("{found} of {} windows of the recording are anomalies", windows.len());
    println!("use it in a rule: {{type: anomaly, model: {name}-v{version}, action: flag_and_upload}}");
    Ok(())
}
