//! Files in a folder of this machine.
//!
//! ```text
//! .incoming/put-x4Tq ── write, fsync ──▶ rename, never over another ──▶ images/4f/4f1c.png ── fsync of its folder
//! ```
//!
//! A name in the tree always is a whole, durable file: a process that dies half-way leaves a temporary file, which the
//! next start removes once it is old. Disk work runs on threads for blocking work, a few at a time, and what a deadline
//! gave up on still counts until the disk has answered.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tempfile::{Builder, NamedTempFile};
use tokio::sync::Semaphore;

use super::key::ObjectKey;
use super::{Put, Trouble};
use crate::store::batch::Object;

/// On the same file system as the rest, so that a rename suffices; no key begins with a dot.
const INCOMING: &str = ".incoming";
const TEMPORARY: &str = "put-";
/// No put takes as long: what is older belongs to nobody.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);
/// More at a time make no disk faster, and bound the threads that a hanging one holds.
const AT_A_TIME: usize = 8;

pub(super) struct Folder {
    root: Arc<Path>,
    shown: String,
    places: Arc<Semaphore>,
}

impl Folder {
    pub fn open(root: &Path) -> Self {
        remove_leftovers(&root.join(INCOMING), SystemTime::now());
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        Self { root: root.into(), shown: format!("folder {}", root.display()), places }
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub async fn put(&self, key: &ObjectKey, object: &Object) -> Result<Put, Trouble> {
        let (root, path, bytes) = (self.root.clone(), self.root.join(key.as_str()), object.bytes.clone());
        self.blocking(key.as_str(), move || put(&root, &path, &bytes)).await
    }

    pub async fn probe(&self) -> Result<(), Trouble> {
        let root = self.root.clone();
        self.blocking("probe", move || temporary(&root, &Bytes::from_static(b"can it be written?")).map(drop)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Trouble> {
        let place = self.places.clone().acquire_owned().await.expect("nobody closes the places");
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        match done.await {
            Ok(done) => done.map_err(|error| trouble(what, &error)),
            // It panicked, or the runtime is going down.
            Err(error) => Err(Trouble::Store(format!("{what}: {error}"))),
        }
    }
}

fn put(root: &Path, path: &Path, bytes: &Bytes) -> io::Result<Put> {
    let put = match size(path)? {
        Some(there) if there == bytes.len() as u64 => Put::Existing,
        Some(there) => {
            // The key is made from the content, so this is not ours: a copy that broke off, somebody's editor.
            tracing::warn!(path = %path.display(), there, wanted = bytes.len(), "object of another size: written anew");
            temporary(root, bytes)?.persist(path)?;
            Put::New
        }
        None => {
            let temporary = temporary(root, bytes)?;
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            match temporary.persist_noclobber(path) {
                Ok(_) => Put::New,
                Err(lost) if lost.error.kind() == ErrorKind::AlreadyExists => Put::Existing,
                Err(lost) => return Err(lost.error),
            }
        }
    };
    // Also of one that was there: whoever wrote it may have died before this. New folders stand in those above them.
    for above in path.ancestors().skip(1).take_while(|above| above.starts_with(root)) {
        sync_folder(above)?;
    }
    Ok(put)
}

/// `None` when nothing is there.
fn size(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(Some(meta.len())),
        Ok(_) => Err(io::Error::new(ErrorKind::IsADirectory, "a folder has the name of the file")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A whole and durable file, which goes away unless it is given a name.
fn temporary(root: &Path, bytes: &Bytes) -> io::Result<NamedTempFile> {
    let incoming = root.join(INCOMING);
    if !incoming.is_dir() {
        fs::create_dir_all(&incoming)?;
        // The root may be new as well. Who may not read what is above it goes without.
        let _ = root.parent().map(sync_folder);
    }
    let mut builder = Builder::new();
    builder.prefix(TEMPORARY);
    // Others serve the files; the umask still has its say.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(incoming)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Ours alone, by their name, and only old ones: another process may share the folder.
fn remove_leftovers(incoming: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(incoming) else { return };
    let mut removed = 0_u32;
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        let age = entry.metadata().ok().filter(fs::Metadata::is_file).and_then(|meta| meta.modified().ok());
        let old = age.and_then(|written| now.duration_since(written).ok()).is_some_and(|age| age > LEFT_BEHIND);
        if ours && old && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    if removed > 0 {
        tracing::info!(folder = %incoming.display(), removed, "removed temporary files that a killed process left");
    }
}

fn trouble(what: &str, error: &io::Error) -> Trouble {
    let advice = match error.kind() {
        ErrorKind::InvalidFilename | ErrorKind::FileTooLarge => return Trouble::Object(format!("{what}: {error}")),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room, or set objects.url to another place",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => "let the service write there",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory => {
            "a file and a folder have the same name there: move one away"
        }
        _ => "look at the disk, or set objects.url to another place",
    };
    Trouble::Store(format!("{what}: {error}; {advice}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_old_files_of_ours_are_removed_at_the_start() {
        let root = tempfile::tempdir().unwrap();
        let incoming = root.path().join(INCOMING);
        fs::create_dir(&incoming).unwrap();
        let hours_ago = |hours: u64| SystemTime::now() - Duration::from_secs(hours * 3600);
        for (name, written) in [("put-old", hours_ago(2)), ("put-new", hours_ago(0)), ("other", hours_ago(9))] {
            let file = File::create(incoming.join(name)).unwrap();
            file.set_modified(written).unwrap();
        }
        fs::create_dir(incoming.join("put-folder")).unwrap();
        Folder::open(root.path());
        let mut left: Vec<_> = fs::read_dir(&incoming).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other", "put-folder", "put-new"]);
    }

    #[test]
    fn errors_of_the_disk_say_what_to_do() {
        for (kind, says) in [
            (ErrorKind::StorageFull, "make room"),
            (ErrorKind::QuotaExceeded, "make room"),
            (ErrorKind::ReadOnlyFilesystem, "let the service write there"),
            (ErrorKind::NotADirectory, "move one away"),
            (ErrorKind::TimedOut, "look at the disk"),
        ] {
            let Trouble::Store(reason) = trouble("a/b.png", &kind.into()) else { panic!("{kind}") };
            assert!(reason.starts_with("a/b.png: ") && reason.contains(says), "{reason}");
        }
        let long = trouble("a/b.png", &ErrorKind::InvalidFilename.into());
        assert!(matches!(long, Trouble::Object(_)), "{long:?}");
    }
}
