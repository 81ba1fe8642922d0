//! Tests of the spectra.
