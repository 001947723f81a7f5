//! The object store: files that rows speak of, under keys made from their content.
//!
//! A folder on this machine. A file is written beside its place and moved there, so that nobody ever reads half of it;
//! one that is there already is the same, and is left alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_actors::job::Fault;

use crate::store::batch::Object;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    New,
    /// It was there, and is as it was.
    Existing,
}

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    root: Arc<Path>,
}

impl Objects {
    /// Files below a folder, which is made when the first one comes.
    pub fn folder(root: PathBuf) -> Self {
        Self { root: root.into() }
    }

    /// # Errors
    /// `Fail` for a key that leads elsewhere, `Unavailable` when the folder cannot be written.
    pub async fn put(&self, object: &Object) -> Result<Put, Fault> {
        let stays = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0', ':']);
        if !object.key.split('/').all(stays) {
            return Err(Fault::fail(format!("{:?} is no key of an object", object.key)));
        }
        let path = self.root.join(&object.key);
        self.write(&path, object)
            .await
            .map_err(|error| Fault::unavailable("objects", format!("write {}: {error}", path.display())))
    }

    async fn write(&self, path: &Path, object: &Object) -> std::io::Result<Put> {
        if tokio::fs::try_exists(path).await? {
            return Ok(Put::Existing);
        }
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        tokio::fs::create_dir_all(&folder).await?;
        let (path, bytes) = (path.to_owned(), object.bytes.clone());
        let written = tokio::task::spawn_blocking(move || {
            let mut file = tempfile::Builder::new().prefix(".part-").tempfile_in(folder)?;
            std::io::Write::write_all(&mut file, &bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error).map(drop)
        });
        written.await.map_err(std::io::Error::other)??;
        Ok(Put::New)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn object(key: &str) -> Object {
        Object { key: key.into(), content_type: "image/png".into(), bytes: b"abc".as_slice().into(), attachment: false }
    }

    #[tokio::test]
    async fn a_file_is_put_once_and_never_half() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::folder(folder.path().join("objects"));
        let image = object("media/ab/abc.png");
        assert_eq!(objects.put(&image).await, Ok(Put::New));
        assert_eq!(objects.put(&image).await, Ok(Put::Existing));
        let names: Vec<_> = std::fs::read_dir(folder.path().join("objects/media/ab")).unwrap().collect();
        assert_eq!(names.len(), 1, "no part is left: {names:?}");
        assert_eq!(std::fs::read(folder.path().join("objects/media/ab/abc.png")).unwrap(), b"abc");
        for key in ["../x", "/x", "a//b", "", "a/.b", "c:/x"] {
            assert!(matches!(objects.put(&object(key)).await, Err(Fault::Fail { .. })), "{key}");
        }
        std::fs::write(folder.path().join("file"), "").unwrap();
        let blocked = Objects::folder(folder.path().join("file"));
        assert!(matches!(blocked.put(&image).await, Err(Fault::Unavailable { .. })));
    }
}
