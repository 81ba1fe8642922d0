//! A library on disk: `<dir>/<name>/<version>/manifest.json` with the model
//! file beside it, and a store of the versions in use.
//!
//! This module is a driver: the only one of the crate that touches files.
//! Rules must replay with the model that was used even when the operator has
//! removed it meanwhile, so [`Directory::keep`] copies a version under the
//! digest of its manifest, and [`Directory::with_kept`] finds it there.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::MODEL_BYTES_MAX;
use crate::error::ModelError;
use crate::library::{Library, ModelRef, digest_of};
use crate::manifest::{MANIFEST_BYTES_MAX, Manifest, is_digest, is_model_name};
use crate::model::{Model, build};
use crate::version::Version;

/// Name of the manifest in the folder of a version.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Most entries that are looked at in the folder of a model.
const VERSIONS_MAX: usize = 1_000;

/// A library on disk.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    kept: Option<PathBuf>,
}

/// A manifest and its model file as read, their digests checked.
struct Files {
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    model_bytes: Vec<u8>,
}

impl Directory {
    /// Models under `path`, which must be a folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, ModelError> {
        let path = path.into();
        let metadata = fs::metadata(&path).map_err(|error| io_error(&path, &error))?;
        if !metadata.is_dir() {
            return Err(io_error(&path, &io::Error::from(io::ErrorKind::NotADirectory)));
        }
        Ok(Self { path, kept: None })
    }

    /// Looks under `path`, where [`Directory::keep`] copied to, for what is no longer in the library.
    #[must_use]
    pub fn with_kept(mut self, path: impl Into<PathBuf>) -> Self {
        self.kept = Some(path.into());
        self
    }

    /// The folder of the models.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies a version to `<into>/<digest of the manifest>/`, durably: when this returns, [`Directory::load`] finds it
    /// there also after a power cut. Does nothing when it is there already and whole.
    pub fn keep(&self, model: &ModelRef, into: &Path) -> Result<(), ModelError> {
        check_ref(model)?;
        let target = into.join(&model.digest);
        if read_files(&target, Some(&model.digest)).is_ok() {
            return Ok(());
        }
        let files = self.find(model)?;
        let write = |path: &Path, bytes: &[u8]| -> io::Result<()> {
            let mut file = File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        let done = |path: &Path, result: io::Result<()>| result.map_err(|error| io_error(path, &error));

        done(into, fs::create_dir_all(into))?;
        // One writer a folder, so the name needs no chance; what a crash left under it is replaced.
        let draft = into.join(format!(".{}.draft", model.digest));
        remove(&draft)?;
        done(&draft, fs::create_dir(&draft))?;
        let (manifest_path, model_path) = (draft.join(MANIFEST_FILE), draft.join(&files.manifest.file));
        done(&model_path, write(&model_path, &files.model_bytes))?;
        done(&manifest_path, write(&manifest_path, &files.manifest_bytes))?;
        done(&draft, sync_folder(&draft))?;
        // A damaged copy makes way: it could not be loaded anyway.
        remove(&target)?;
        done(&target, fs::rename(&draft, &target))?;
        done(into, sync_folder(into))?;
        if let Some(parent) = into.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            done(parent, sync_folder(parent))?;
        }
        Ok(())
    }

    /// The version's files: from the library, or from the kept ones.
    fn find(&self, model: &ModelRef) -> Result<Files, ModelError> {
        let in_library = read_files(&self.path.join(&model.name).join(&model.version), Some(&model.digest));
        let first = match in_library {
            Ok(files) => return Ok(files),
            Err(error) => error,
        };
        // Of two errors the library's says more.
        let kept = self.kept.as_ref().map(|kept| read_files(&kept.join(&model.digest), Some(&model.digest)));
        kept.and_then(Result::ok).ok_or(first)
    }

    /// The version in `folder`, whose manifest must agree with the names of the folders.
    fn version(&self, name: &str, version: &str) -> Result<ModelRef, ModelError> {
        let folder = self.path.join(name).join(version);
        let bytes = read_limited(&folder.join(MANIFEST_FILE), "manifest in bytes", MANIFEST_BYTES_MAX)?;
        let manifest = Manifest::parse(&bytes)?;
        for (key, found, expected) in [("name", &manifest.name, name), ("version", &manifest.version, version)] {
            if found != expected {
                let problem = format!("{found:?} differs from the folder's name {expected:?}");
                return Err(ModelError::key(key, problem));
            }
        }
        Ok(ModelRef { name: name.to_owned(), version: version.to_owned(), digest: digest_of(&bytes) })
    }

    /// Folders in the folder of a model that have the name of a version, newest first, and errors about others.
    fn folders(&self, name: &str) -> Result<Vec<Version>, ModelError> {
        let folder = self.path.join(name);
        let entries = fs::read_dir(&folder).map_err(|error| io_error(&folder, &error))?;
        let mut versions = Vec::new();
        for (seen, entry) in entries.enumerate() {
            if seen >= VERSIONS_MAX {
                let (found, limit) = (seen as u64 + 1, VERSIONS_MAX as u64);
                return Err(ModelError::TooLarge { what: "entries in the folder of a model", found, limit });
            }
            let entry = entry.map_err(|error| io_error(&folder, &error))?;
            // Whatever is not named like a version is somebody's note or draft.
            versions.extend(entry.file_name().to_str().and_then(Version::parse));
        }
        versions.sort_by(|a, b| b.cmp(a));
        Ok(versions)
    }

    fn list(&self, name: &str, up_to: Option<&Version>) -> Vec<Result<ModelRef, (String, ModelError)>> {
        let mut versions = match self.folders(name) {
            Ok(versions) => versions,
            Err(error) => return vec![Err((name.to_owned(), error))],
        };
        if let Some(up_to) = up_to {
            versions.retain(|version| version <= up_to);
            if versions.first() != Some(up_to) {
                // Asked for by name: that it is not there must be said, not only what stands in for it.
                versions.insert(0, up_to.clone());
            }
        }
        let entry = |version: &Version| {
            self.version(name, version.as_str()).map_err(|error| (format!("{name}/{version}"), error))
        };
        versions.iter().map(entry).collect()
    }
}

impl Library for Directory {
    fn versions(&self, name: &str) -> Vec<Result<ModelRef, (String, ModelError)>> {
        if !is_model_name(name) {
            let problem = "is no name of a model: use letters, digits, `_`, `-` and `.`";
            return vec![Err((name.to_owned(), ModelError::key("model", problem)))];
        }
        if self.path.join(name).is_dir() {
            return self.list(name, None);
        }
        let named = name.rsplit_once("-v").and_then(|(name, version)| Some((name, Version::parse(version)?)));
        match named {
            Some((name, version)) if is_model_name(name) && self.path.join(name).is_dir() => {
                self.list(name, Some(&version))
            }
            _ => Vec::new(),
        }
    }

    fn load(&self, model: &ModelRef) -> Result<Arc<dyn Model>, ModelError> {
        check_ref(model)?;
        let files = self.find(model)?;
        build(files.manifest, &files.model_bytes)
    }
}

/// A reference may come from a file that somebody wrote: it must not lead out of the library.
fn check_ref(model: &ModelRef) -> Result<(), ModelError> {
    if !is_model_name(&model.name) || Version::parse(&model.version).is_none() || !is_digest(&model.digest) {
        let problem = format!("{:?} {:?} {:?} is no reference to a model", model.name, model.version, model.digest);
        return Err(ModelError::key("model", problem));
    }
    Ok(())
}

/// Manifest and model file of a folder, both held against their digests.
fn read_files(folder: &Path, digest: Option<&str>) -> Result<Files, ModelError> {
    let path = folder.join(MANIFEST_FILE);
    let manifest_bytes = read_limited(&path, "manifest in bytes", MANIFEST_BYTES_MAX)?;
    if let Some(expected) = digest {
        same_digest(&path, &manifest_bytes, expected)?;
    }
    let manifest = Manifest::parse(&manifest_bytes)?;
    let path = folder.join(&manifest.file);
    let model_bytes = read_limited(&path, "model file in bytes", MODEL_BYTES_MAX)?;
    same_digest(&path, &model_bytes, &manifest.digest)?;
    Ok(Files { manifest, manifest_bytes, model_bytes })
}

fn same_digest(path: &Path, bytes: &[u8], expected: &str) -> Result<(), ModelError> {
    let found = digest_of(bytes);
    if found == expected {
        return Ok(());
    }
    Err(ModelError::Digest { path: path.display().to_string(), expected: expected.to_owned(), found })
}

/// A whole file of at most `limit` bytes. Only a regular file: a pipe would wait for ever.
fn read_limited(path: &Path, what: &'static str, limit: usize) -> Result<Vec<u8>, ModelError> {
    let wrong = |error: io::Error| io_error(path, &error);
    let metadata = fs::metadata(path).map_err(wrong)?;
    if !metadata.is_file() {
        return Err(wrong(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes)).map_err(wrong)?;
    if bytes.len() > limit {
        let (found, limit) = (metadata.len().max(bytes.len() as u64), limit as u64);
        return Err(ModelError::TooLarge { what, found, limit });
    }
    Ok(bytes)
}

/// Removes a folder with all in it, if it is there.
fn remove(path: &Path) -> Result<(), ModelError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, &error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn io_error(path: &Path, error: &io::Error) -> ModelError {
    let path = path.display().to_string();
    match error.kind() {
        io::ErrorKind::NotFound => ModelError::Missing { path },
        kind => ModelError::Io { path, kind, problem: error.to_string() },
    }
}
