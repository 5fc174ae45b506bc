//! The cache folder, looked at and damaged while no proxy runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use rand::rngs::StdRng;
use roadstead::oci::Digest;

/// So many bytes tell one blob from another.
const BEGINNING: usize = 512;

/// The stored content by digest.
pub(super) fn stored(cache: &Path) -> BTreeMap<Digest, PathBuf> {
    let files = files(&cache.join("blobs"));
    let digest = |file: &Path| -> Digest {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let algorithm = name(file.parent().unwrap().parent().unwrap());
        format!("{algorithm}:{}", name(file)).parse().unwrap()
    };
    files.into_iter().map(|file| (digest(&file), file)).collect()
}

/// What is unfinished.
pub(super) fn partials(cache: &Path) -> Vec<PathBuf> {
    files(&cache.join("partial"))
}

/// What content, finished and unfinished, takes on the disk.
pub(super) fn used(cache: &Path) -> u64 {
    let files = stored(cache).into_values().chain(partials(cache));
    files.map(|file| fs::metadata(file).unwrap().blocks() * 512).sum()
}

/// Changes one byte of an unfinished file, or shortens it. Tells how that file began, and those whose names begin as its own
/// does, from which it can be told whose it is.
pub(super) fn damage(cache: &Path, rng: &mut StdRng) -> Vec<Vec<u8>> {
    let files: Vec<_> = partials(cache).into_iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
    let Some(path) = files.get(rng.random_range(0..files.len().max(1))) else { return Vec::new() };
    let related = files.iter().filter(|file| file.file_stem() == path.file_stem());
    let beginnings = related.map(|file| fs::read(file).unwrap().into_iter().take(BEGINNING).collect()).collect();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let at = rng.random_range(0..file.metadata().unwrap().len());
    if rng.random_bool(0.5) {
        file.set_len(at).unwrap();
    } else {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }
    beginnings
}

/// All files below a folder, which may be missing.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}
