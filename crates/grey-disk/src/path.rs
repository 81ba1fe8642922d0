//! The one check that a path stays inside its disk.

use std::io;
use std::path::{Component, Path};

/// The components of a relative path, or why it is none.
pub(crate) fn components(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(|| invalid(path, "is not UTF-8"))?),
            _ => return Err(invalid(path, "leaves the disk's root; give a relative path without '..'")),
        }
    }
    Ok(parts)
}

fn invalid(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("path {} {why}", path.display()))
}
