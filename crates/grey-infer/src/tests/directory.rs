//! The directory: order, fallback, damage, and copies that outlive it.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::{manifest, small_mlp};
use crate::{Directory, Library as _, ModelError, ModelRef, NoModels};

/// Writes a version and returns its folder.
fn put(models: &Path, name: &str, version: &str) -> std::path::PathBuf {
    let folder = models.join(name).join(version);
    fs::create_dir_all(&folder).unwrap();
    let file = small_mlp();
    let mut manifest = manifest("mlp", "score", 2, &file);
    manifest["name"] = json!(name);
    manifest["version"] = json!(version);
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(folder.join("model.grym"), file).unwrap();
    folder
}

/// Names of the versions, `!` before one that is an error.
fn list(directory: &Directory, name: &str) -> Vec<String> {
    let entry = |entry| match entry {
        Ok(ModelRef { name, version, .. }) => format!("{name}/{version}"),
        Err((what, _)) => format!("!{what}"),
    };
    directory.versions(name).into_iter().map(entry).collect()
}

fn first(directory: &Directory, name: &str) -> ModelRef {
    directory.versions(name).into_iter().find_map(Result::ok).unwrap()
}

fn remove(path: &Path) {
    fs::remove_dir_all(path).unwrap();
}

#[test]
fn versions_come_newest_first_and_load() {
    let models = TempDir::new().unwrap();
    for version in ["1", "10", "2", "2.1", "2-rc.1"] {
        put(models.path(), "edge-anomaly", version);
    }
    // Neither is a version: a note and a draft.
    fs::write(models.path().join("edge-anomaly/README.md"), "notes").unwrap();
    fs::create_dir(models.path().join("edge-anomaly/.draft")).unwrap();
    let directory = Directory::open(models.path()).unwrap();
    let expected = ["10", "2.1", "2", "2-rc.1", "1"].map(|version| format!("edge-anomaly/{version}"));
    assert_eq!(list(&directory, "edge-anomaly"), expected);
    assert_eq!(list(&directory, "other"), [""; 0]);
    let model = directory.load(&first(&directory, "edge-anomaly")).unwrap();
    assert_eq!(model.manifest().version, "10");
    assert!(model.infer(&[1.0, 2.0], &mut Vec::new()).unwrap().anomalous);
}

#[test]
fn a_name_may_end_in_a_version() {
    let models = TempDir::new().unwrap();
    for version in ["1", "2", "3"] {
        put(models.path(), "edge-anomaly", version);
    }
    let directory = Directory::open(models.path()).unwrap();
    assert_eq!(list(&directory, "edge-anomaly-v2"), ["edge-anomaly/2", "edge-anomaly/1"]);
    // The one that was asked for is missing: said, with what stands in for it.
    assert_eq!(list(&directory, "edge-anomaly-v2.5"), ["!edge-anomaly/2.5", "edge-anomaly/2", "edge-anomaly/1"]);
    assert!(matches!(&directory.versions("edge-anomaly-v2.5")[0], Err((_, ModelError::Missing { .. }))));
    assert_eq!(list(&directory, "other-v1"), [""; 0]);
    // A model of the whole name comes before that reading.
    put(models.path(), "edge-anomaly-v2", "7");
    assert_eq!(list(&directory, "edge-anomaly-v2"), ["edge-anomaly-v2/7"]);
}

#[test]
fn a_bad_version_stands_at_its_place_as_an_error() {
    let models = TempDir::new().unwrap();
    for version in ["1", "2", "3", "4"] {
        put(models.path(), "m", version);
    }
    let at = |path: &str| models.path().join("m").join(path);
    fs::write(at("4/manifest.json"), "{").unwrap();
    fs::remove_file(at("3/manifest.json")).unwrap();
    let other = fs::read_to_string(at("1/manifest.json")).unwrap();
    fs::write(at("2/manifest.json"), other).unwrap();
    let directory = Directory::open(models.path()).unwrap();
    assert_eq!(list(&directory, "m"), ["!m/4", "!m/3", "!m/2", "m/1"]);
    let errors: Vec<String> =
        directory.versions("m").into_iter().filter_map(Result::err).map(|(_, error)| error.to_string()).collect();
    assert!(errors[0].starts_with("manifest: EOF"), "{errors:?}");
    assert!(errors[1].ends_with("m/3/manifest.json is missing"), "{errors:?}");
    assert_eq!(errors[2], "manifest: version: \"1\" differs from the folder's name \"2\"");
}

#[test]
fn a_changed_or_missing_file_is_named() {
    let models = TempDir::new().unwrap();
    let folder = put(models.path(), "m", "1");
    let directory = Directory::open(models.path()).unwrap();
    let model = first(&directory, "m");
    fs::write(folder.join("model.grym"), b"other").unwrap();
    let error = directory.load(&model).unwrap_err();
    assert!(matches!(&error, ModelError::Digest { path, .. } if path.ends_with("model.grym")), "{error}");
    fs::remove_file(folder.join("model.grym")).unwrap();
    assert!(matches!(directory.load(&model), Err(ModelError::Missing { path }) if path.ends_with("m/1/model.grym")));
    // A folder in place of the file.
    fs::create_dir(folder.join("model.grym")).unwrap();
    assert!(directory.load(&model).unwrap_err().to_string().contains("is not a regular file"));
    // The manifest changed since the version was listed.
    remove(&folder);
    put(models.path(), "m", "1");
    let text = fs::read_to_string(folder.join("manifest.json")).unwrap();
    fs::write(folder.join("manifest.json"), text + "\n").unwrap();
    let error = directory.load(&model).unwrap_err();
    assert!(matches!(&error, ModelError::Digest { path, .. } if path.ends_with("manifest.json")), "{error}");
}

#[test]
fn what_is_too_large_is_not_read() {
    let models = TempDir::new().unwrap();
    let folder = put(models.path(), "m", "1");
    let directory = Directory::open(models.path()).unwrap();
    let model = first(&directory, "m");
    // Sparse, so that the test is quick.
    let file = fs::File::create(folder.join("model.grym")).unwrap();
    file.set_len(crate::MODEL_BYTES_MAX as u64 + 1).unwrap();
    let limit = crate::MODEL_BYTES_MAX as u64;
    let expected = ModelError::TooLarge { what: "model file in bytes", found: limit + 1, limit };
    assert_eq!(directory.load(&model).unwrap_err(), expected);
}

#[test]
fn names_and_references_do_not_lead_out_of_the_library() {
    let place = TempDir::new().unwrap();
    let models = place.path().join("models");
    put(&models, "m", "1");
    put(place.path(), "secret", "1");
    let directory = Directory::open(&models).unwrap();
    for name in ["../secret", "..", ".", "", "/", "m/1", "m\0"] {
        assert_eq!(list(&directory, name), [format!("!{name}")], "{name:?}");
    }
    let good = first(&directory, "m");
    for wrong in [
        ModelRef { name: "../secret".into(), ..good.clone() },
        ModelRef { version: "../../secret/1".into(), ..good.clone() },
        ModelRef { digest: "../m".into(), ..good },
    ] {
        assert!(directory.load(&wrong).unwrap_err().to_string().contains("is no reference to a model"));
        assert!(directory.keep(&wrong, place.path()).is_err());
    }
}

#[test]
fn a_kept_version_outlives_the_library() {
    let place = TempDir::new().unwrap();
    let (models, kept) = (place.path().join("models"), place.path().join("state/kept"));
    put(&models, "m", "1");
    fs::create_dir(place.path().join("state")).unwrap();
    let directory = Directory::open(&models).unwrap().with_kept(&kept);
    let model = first(&directory, "m");
    let before = directory.load(&model).unwrap().infer(&[1.0, 2.0], &mut Vec::new());
    directory.keep(&model, &kept).unwrap();
    remove(&models.join("m"));
    assert_eq!(list(&directory, "m"), [""; 0]);
    assert_eq!(directory.load(&model).unwrap().infer(&[1.0, 2.0], &mut Vec::new()), before);
    // Again, now from the copy itself: nothing to do.
    directory.keep(&model, &kept).unwrap();
    // The same version with other bytes is another model.
    put(&models, "m", "1");
    let path = models.join("m/1/manifest.json");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("0.5", "0.75")).unwrap();
    let other = first(&directory, "m");
    assert_ne!(other, model);
    directory.keep(&other, &kept).unwrap();
    let threshold = |model: &ModelRef| directory.load(model).unwrap().manifest().output.threshold;
    assert_eq!((threshold(&model), threshold(&other)), (0.5, 0.75));
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 2, "no drafts are left");
}

#[test]
fn a_torn_copy_is_made_whole() {
    let place = TempDir::new().unwrap();
    let (models, kept) = (place.path().join("models"), place.path().join("kept"));
    put(&models, "m", "1");
    let directory = Directory::open(&models).unwrap().with_kept(&kept);
    let model = first(&directory, "m");
    // A crash left a draft, and damage half a copy.
    fs::create_dir_all(kept.join(format!(".{}.draft", model.digest))).unwrap();
    fs::write(kept.join(format!(".{}.draft/model.grym", model.digest)), b"half").unwrap();
    directory.keep(&model, &kept).unwrap();
    fs::write(kept.join(&model.digest).join("model.grym"), b"damaged").unwrap();
    directory.keep(&model, &kept).unwrap();
    remove(&models.join("m"));
    assert!(directory.load(&model).is_ok());
    // Damaged once more, with no source left: an error, and the copy is not touched.
    fs::write(kept.join(&model.digest).join("model.grym"), b"damaged").unwrap();
    assert!(directory.keep(&model, &kept).is_err());
    let error = directory.load(&model).unwrap_err();
    assert!(matches!(&error, ModelError::Missing { path } if path.ends_with("m/1/manifest.json")), "{error}");
}

#[test]
fn a_library_that_is_not_there_is_an_error() {
    let place = TempDir::new().unwrap();
    assert!(matches!(Directory::open(place.path().join("models")), Err(ModelError::Missing { .. })));
    fs::write(place.path().join("file"), b"").unwrap();
    assert!(matches!(Directory::open(place.path().join("file")), Err(ModelError::Io { .. })));
    let model = ModelRef { name: "m".into(), version: "1".into(), digest: "0".repeat(64) };
    assert!(NoModels.versions("m").is_empty());
    assert_eq!(NoModels.load(&model).unwrap_err().to_string(), "model m/1 is missing");
}
