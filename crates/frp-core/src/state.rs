//! The state directory: what a program keeps between two runs (its self-signed certificate, say).

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// Small files by name, written whole or not at all, readable by their owner only. Clones share them.
#[derive(Clone, Debug)]
pub struct StateDir {
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    /// Nowhere to write: kept until the process ends.
    Memory(Arc<Mutex<BTreeMap<String, Vec<u8>>>>),
}

/// The largest state file that is read.
const MAX_FILE_LEN: u64 = 1024 * 1024;

impl StateDir {
    /// Opens `configured` (`stateDir`), else `$STATE_DIRECTORY` as systemd sets it, else
    /// `program` in the XDG state folder. Where no directory can be had, state is kept in memory
    /// and one warning says so.
    pub fn open(configured: Option<&Path>, program: &str) -> Self {
        let Some(path) = directory(configured, program) else {
            tracing::warn!(
                "no state directory: set stateDir, STATE_DIRECTORY or HOME; \
                 until then a restart forgets what it would keep there"
            );
            return Self::in_memory();
        };
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path);
        if let Err(e) = made.and_then(|()| probe_writable(&path)) {
            tracing::warn!(
                "cannot use state directory {}: {e}; state is kept in memory and lost at exit",
                path.display()
            );
            return Self::in_memory();
        }
        Self {
            place: Place::Directory(path),
        }
    }

    /// The directory that [`StateDir::open`] would open, if it is there. Nothing is made or said.
    pub fn existing(configured: Option<&Path>, program: &str) -> Option<Self> {
        let path = configured
            .map(Path::to_path_buf)
            .or_else(|| default_path(program))?;
        path.is_dir().then_some(Self {
            place: Place::Directory(path),
        })
    }

    /// A state directory that ends with the process.
    pub fn in_memory() -> Self {
        Self {
            place: Place::Memory(Arc::default()),
        }
    }

    /// Where the files are, if they are on disk.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(path) => Some(path),
            Place::Memory(_) => None,
        }
    }

    /// Returns the content of `name`, or `None` if it was never written.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.read_up_to(name, MAX_FILE_LEN)
    }

    /// The same for a file that may be this long.
    pub fn read_up_to(&self, name: &str, max_len: u64) -> io::Result<Option<Vec<u8>>> {
        match &self.place {
            Place::Memory(files) => Ok(files.lock().get(name).cloned()),
            Place::Directory(path) => {
                let path = path.join(name);
                match fs::metadata(&path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(e) => return Err(e),
                    Ok(meta) if meta.len() > max_len => {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!("{} is larger than {max_len} bytes", path.display()),
                        ));
                    }
                    Ok(_) => {}
                }
                fs::read(path).map(Some)
            }
        }
    }

    /// The names that begin with `prefix`, in their order. What is being written is not among them.
    pub fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        match &self.place {
            Place::Memory(files) => names.extend(files.lock().keys().cloned()),
            Place::Directory(path) => {
                for entry in fs::read_dir(path)? {
                    // A name that is not UTF-8 is none of ours.
                    names.extend(entry?.file_name().into_string());
                }
            }
        }
        names.retain(|name| name.starts_with(prefix) && !name.ends_with(".tmp"));
        names.sort();
        Ok(names)
    }

    /// Removes `name`. One that is not there is removed already.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match &self.place {
            Place::Memory(files) => {
                files.lock().remove(name);
                Ok(())
            }
            Place::Directory(path) => match fs::remove_file(path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Replaces the content of `name`: after a crash or on a full disk there is the old content or
    /// the new one, never a part.
    pub fn write_whole(&self, name: &str, content: &[u8]) -> io::Result<()> {
        match &self.place {
            Place::Memory(files) => {
                files.lock().insert(name.to_owned(), content.to_vec());
                Ok(())
            }
            Place::Directory(path) => write_whole(&path.join(name), content),
        }
    }
}

/// Replaces the file at `path` by one with `content` and mode 0600: a temporary file beside it is
/// written, synced and renamed.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temp_name = path.file_name().unwrap_or_default().to_owned();
    temp_name.push(format!(".{}.tmp", std::process::id()));
    let temp = path.with_file_name(temp_name);
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temp)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temp, path)
    })();
    if written.is_err() {
        // Best effort: the error that matters is the one returned.
        let _ = fs::remove_file(&temp);
        return written;
    }
    // The rename itself survives a power cut once the directory is synced.
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Where [`StateDir::open`] would keep the state of `program`. Makes nothing and writes nothing.
pub fn directory(configured: Option<&Path>, program: &str) -> Option<PathBuf> {
    configured
        .map(Path::to_path_buf)
        .or_else(|| default_path(program))
}

fn default_path(program: &str) -> Option<PathBuf> {
    let from = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    // systemd separates several directories by colons; the first is ours.
    if let Some(dirs) = from("STATE_DIRECTORY") {
        let first = dirs.to_string_lossy().split(':').next().map(PathBuf::from);
        return first;
    }
    let base = from("XDG_STATE_HOME").or_else(|| Some(from("HOME")?.join(".local/state")))?;
    Some(base.join("holdfast").join(program))
}

fn probe_writable(path: &Path) -> io::Result<()> {
    let probe = path.join(format!(".probe.{}", std::process::id()));
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&probe)?;
    fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::StateDir;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_written_is_read_again_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");

        StateDir::open(Some(&path), "frps")
            .write_whole("key", b"first")
            .unwrap();
        StateDir::open(Some(&path), "frps")
            .write_whole("key", b"second")
            .unwrap();

        let state = StateDir::open(Some(&path), "frps");
        assert_eq!(state.read("key").unwrap().as_deref(), Some(&b"second"[..]));
        assert_eq!(state.read("absent").unwrap(), None);
    }

    #[test]
    fn files_are_listed_by_how_their_names_begin_until_they_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        for state in [
            StateDir::open(Some(dir.path()), "frpc"),
            StateDir::in_memory(),
        ] {
            for name in ["a-2", "a-1", "b-1"] {
                state.write_whole(name, b"").unwrap();
            }
            assert_eq!(state.list("a-").unwrap(), ["a-1", "a-2"]);
            state.remove("a-1").unwrap();
            state.remove("a-1").unwrap();
            assert_eq!(state.list("a-").unwrap(), ["a-2"]);
        }
    }

    #[test]
    fn only_the_owner_may_read_a_state_file() {
        let dir = tempfile::tempdir().unwrap();
        StateDir::open(Some(dir.path()), "frps")
            .write_whole("key", b"secret")
            .unwrap();

        let mode = std::fs::metadata(dir.path().join("key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_a_usable_directory_state_is_kept_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();

        let state = StateDir::open(Some(&file.join("below a file")), "frps");
        state.write_whole("key", b"kept").unwrap();

        assert_eq!(state.path(), None);
        assert_eq!(state.read("key").unwrap().as_deref(), Some(&b"kept"[..]));
    }
}
