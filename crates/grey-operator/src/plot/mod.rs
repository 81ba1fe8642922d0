//! Plots of a test run: each stream with its limits, the times that alerts
//! fired, what detectors found, and what windows averaged.
//!
//! A [`Traces`] takes readings as they come in bounded memory and forgets no
//! peak. [`draw`] lays them out on a [`canvas::Canvas`], which is either SVG
//! text or pixels. No system font is needed and none is looked for.

mod canvas;
mod draw;
mod font;
mod png;
mod raster;
mod scale;
mod svg;
#[cfg(test)]
mod tests;
mod trace;

use std::path::Path;

pub(crate) use trace::Traces;

use crate::replay::Outcome;
use crate::rules_file::RulesFile;

/// Why a plot cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlotError {
    /// The file's name says no format.
    #[error("{0}: the extension names no picture; allowed: .svg, .png")]
    Format(String),
    /// There is nothing to draw.
    #[error("there is no number to draw in the recording")]
    Empty,
}

/// How a plot is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Svg,
    Png,
}

impl Format {
    /// The format of a file by its extension.
    pub(crate) fn of(path: &Path) -> Result<Self, PlotError> {
        match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => Err(PlotError::Format(path.display().to_string())),
        }
    }
}

/// The picture of a run.
pub(crate) fn draw(
    traces: &Traces,
    outcome: &Outcome,
    rules: &RulesFile,
    format: Format,
) -> Result<Vec<u8>, PlotError> {
    let limits = rules.limits();
    let plan = draw::plan(traces, outcome, &limits)?;
    let (width, height) = plan.size();
    Ok(match format {
        Format::Svg => {
            let mut canvas = svg::Svg::new(width, height);
            plan.paint(&mut canvas);
            canvas.into_bytes()
        }
        Format::Png => {
            let mut canvas = raster::Raster::new(width, height);
            plan.paint(&mut canvas);
            let (pixels, width, height) = canvas.into_pixels();
            png::encode(&pixels, width, height)
        }
    })
}
