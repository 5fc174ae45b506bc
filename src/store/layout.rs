//! The cache folder: the one place that knows what lies where.
//!
//! ```text
//! <cache directory>      0700, of one process at a time
//! ├── VERSION            the format, "1"
//! ├── lock               locked (flock) by the process that uses the folder
//! ├── index.redb         links, tags, lists, pins, sizes and last use; may be lost
//! ├── index.redb.broken  the last index that could not be read, for whoever wants to know why
//! ├── blobs
//! │   └── sha256         or sha512
//! │       └── e3         first byte of the hash: a shelf
//! │           └── e3b0…  the content; complete and verified, or not there at all
//! └── partial
//!     ├── <run>-<n>      what is being written; of no use once the process of that run is gone
//!     ├── kept-1f0c…     a download that outlives the process, by the hash of its registry and digest
//!     └── kept-1f0c….note  whose it is and which of its bytes are there; without a note that holds, it is of no use
//! ```
//!
//! Content exists where its file does: no record says so.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::disk::Disk;
use super::error::{Error, Kind};
use crate::oci::{Algorithm, Digest, RegistryName};

const FORMAT: &str = "1";
/// What the names of downloads that outlive the process begin with, unlike a run's, and those of their notes end with.
const KEPT: &str = "kept-";
const NOTE: &str = ".note";
/// What may lie in a folder that is about to become a cache: what an interrupted first start leaves, and what a fresh ext4
/// file system begins with.
const HARMLESS: [&str; 3] = ["lock", "VERSION.new", "lost+found"];

/// An opened cache folder. Dropping it lets another process have it.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    /// Random, so that files of this run are told from leftovers.
    run: String,
    made: AtomicU64,
    disk: Disk,
    lock: Mutex<File>,
}

/// All content whose hash begins with one byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shelf {
    pub(super) algorithm: Algorithm,
    pub(super) first: u8,
}

/// Names a download that outlives the process, and its note.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name(Arc<str>);

/// What lies among the unfinished.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    /// The file of a download that outlives the process, or its note.
    Kept(Name),
    /// Nobody's any more.
    Unfinished(PathBuf),
}

/// A file on a shelf.
#[derive(Debug)]
pub(super) enum Entry {
    Blob { digest: Digest, size: u64, written: SystemTime },
    Stray(PathBuf),
}

impl Layout {
    /// Opens the folder, making it where it is missing. Blocks.
    ///
    /// # Errors
    /// `Foreign`, `Locked`, `Version`, `Io` and `Full`; nothing was changed in the first three cases.
    pub(super) fn open(root: &Path, disk: Disk) -> Result<Self, Error> {
        make_folder(&disk, root)?;
        refuse_foreign(&disk, root)?;
        let lock = lock(&root.join("lock"))?;
        check_version(&disk, root)?;
        fs::set_permissions(root, Permissions::from_mode(0o700))
            .map_err(|error| Error::io("cannot close to others", root, error))?;
        let run = format!("{:016x}", rand::random::<u64>());
        let layout = Self { root: root.to_owned(), run, made: AtomicU64::new(0), disk, lock: Mutex::new(lock) };
        layout.make_folders()?;
        Ok(layout)
    }

    /// Makes again what somebody deleted of the folder while it was in use, the lock included: whoever has locked the new one
    /// meanwhile keeps it. Blocks.
    ///
    /// # Errors
    /// As [`Layout::open`].
    pub(super) fn remake(&self) -> Result<(), Error> {
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        make_folder(&self.disk, &self.root)?;
        let path = self.root.join("lock");
        let ours = held.metadata().map_err(|error| Error::io("cannot look at", &path, error))?;
        let is_ours = fs::metadata(&path).is_ok_and(|found| (found.dev(), found.ino()) == (ours.dev(), ours.ino()));
        if !is_ours {
            *held = lock(&path)?;
        }
        check_version(&self.disk, &self.root)?;
        self.make_folders()
    }

    fn make_folders(&self) -> Result<(), Error> {
        make_folder(&self.disk, &self.root.join("blobs"))?;
        make_folder(&self.disk, &self.partial())?;
        self.disk.sync_folder(&self.root).map_err(|error| Error::io("cannot make durable", &self.root, error))
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.redb")
    }

    pub(super) fn broken_index(&self) -> PathBuf {
        self.root.join("index.redb.broken")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.shelf(Shelf::of(digest)).join(digest.to_hex())
    }

    /// The name of a download that outlives the process. A hash, because the name of a registry may hold a port, and be long.
    pub(super) fn kept_name(registry: &RegistryName, digest: &Digest) -> Name {
        Name(Digest::of(Algorithm::Sha256, format!("{registry}\0{digest}").as_bytes()).to_hex().into())
    }

    pub(super) fn kept(&self, name: &Name) -> PathBuf {
        self.partial().join(format!("{KEPT}{}", name.0))
    }

    pub(super) fn note(&self, name: &Name) -> PathBuf {
        self.partial().join(format!("{KEPT}{}{NOTE}", name.0))
    }

    /// A path that no file has, on the same file system as the blobs.
    pub(super) fn temporary(&self) -> PathBuf {
        self.partial().join(format!("{}-{}", self.run, self.made.fetch_add(1, Ordering::Relaxed)))
    }

    /// Moves a finished file to where content with this digest belongs. Durable after [`Layout::sync`]. "Not found" where the
    /// file is gone, or the whole folder, which then wants [`Layout::remake`] before anything lies in it. Blocks.
    pub(super) fn place(&self, from: &Path, digest: &Digest) -> io::Result<()> {
        let to = self.blob(digest);
        match self.disk.rename(from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.root.join("VERSION").exists() => {
                self.make_shelf(Shelf::of(digest))?;
                self.disk.rename(from, &to)
            }
            other => other,
        }
    }

    /// Makes the name of placed content durable. Blocks.
    pub(super) fn sync(&self, digest: &Digest) -> io::Result<()> {
        self.disk.sync_folder(&self.shelf(Shelf::of(digest)))
    }

    /// What lies on a shelf; nothing where there is none. Blocks.
    pub(super) fn entries(&self, shelf: Shelf) -> io::Result<Vec<Entry>> {
        let folder = match self.disk.list(&self.shelf(shelf)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        folder.filter_map(|file| file.and_then(|file| entry(shelf, &file)).transpose()).collect()
    }

    /// What earlier runs left unfinished, and all that is kept. Blocks.
    pub(super) fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let own = format!("{}-", self.run);
        let mut found = Vec::new();
        for file in self.disk.list(&self.partial())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with(&own) {
                continue;
            }
            found.push(match name.strip_prefix(KEPT) {
                Some(kept) => Leftover::Kept(Name(kept.strip_suffix(NOTE).unwrap_or(kept).into())),
                None => Leftover::Unfinished(file.path()),
            });
        }
        Ok(found)
    }

    fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn shelf(&self, shelf: Shelf) -> PathBuf {
        self.root.join("blobs").join(shelf.algorithm.as_str()).join(format!("{:02x}", shelf.first))
    }

    fn make_shelf(&self, shelf: Shelf) -> io::Result<()> {
        let (blobs, folder) = (self.root.join("blobs"), self.shelf(shelf));
        self.disk.make_folder(&folder)?;
        self.disk.sync_folder(&blobs.join(shelf.algorithm.as_str()))?;
        self.disk.sync_folder(&blobs)
    }
}

impl Shelf {
    fn of(digest: &Digest) -> Self {
        Self { algorithm: digest.algorithm(), first: digest.bytes()[0] }
    }

    /// Every shelf that can be.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let of = |algorithm| (0..=u8::MAX).map(move |first| Self { algorithm, first });
        of(Algorithm::Sha256).chain(of(Algorithm::Sha512))
    }
}

/// `None` where the file went away meanwhile.
fn entry(shelf: Shelf, file: &fs::DirEntry) -> io::Result<Option<Entry>> {
    let metadata = match file.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let name = file.file_name();
    let digest = format!("{}:{}", shelf.algorithm.as_str(), name.to_string_lossy()).parse::<Digest>();
    Ok(Some(match digest {
        Ok(digest) if digest.bytes()[0] == shelf.first && metadata.is_file() => {
            Entry::Blob { digest, size: metadata.len(), written: metadata.modified()? }
        }
        _ => Entry::Stray(file.path()),
    }))
}

fn make_folder(disk: &Disk, path: &Path) -> Result<(), Error> {
    disk.make_folder(path).map_err(|error| Error::io("cannot make the folder", path, error))
}

fn refuse_foreign(disk: &Disk, root: &Path) -> Result<(), Error> {
    let failed = |error| Error::io("cannot read the cache folder", root, error);
    if root.join("VERSION").try_exists().map_err(failed)? {
        return Ok(());
    }
    for entry in disk.list(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            let message = format!(
                "{} is not empty and no cache of roadstead: it holds {} but no VERSION; name an empty folder as cache.directory",
                root.display(),
                name.display()
            );
            return Err(Error::new(Kind::Foreign, message));
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, Error> {
    let failed = |error| Error::io("cannot lock", path, error);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message =
                format!("{} is locked: another roadstead uses this cache; stop it or name another folder", path.display());
            Err(Error::new(Kind::Locked, message))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

fn check_version(disk: &Disk, root: &Path) -> Result<(), Error> {
    let path = root.join("VERSION");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim() == FORMAT => Ok(()),
        Ok(text) => {
            let message = format!(
                "the cache in {} has format {:?} and this roadstead knows only {FORMAT:?}: use the roadstead that wrote it, or empty the folder",
                root.display(),
                text.trim().chars().take(20).collect::<String>()
            );
            Err(Error::new(Kind::Version, message))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_version(disk, root).map_err(|error| Error::io("cannot write", &path, error))
        }
        Err(error) => Err(Error::io("cannot read", &path, error)),
    }
}

fn write_version(disk: &Disk, root: &Path) -> io::Result<()> {
    let new = root.join("VERSION.new");
    disk.remove(&new)?;
    let file = disk.create(&new)?;
    disk.write_at(&file, format!("{FORMAT}\n").as_bytes(), 0)?;
    disk.sync(&file)?;
    disk.rename(&new, &root.join("VERSION"))?;
    // Before anything else lies here: a folder that has content and no version would be refused.
    disk.sync_folder(root)
}

#[cfg(test)]
mod tests;
