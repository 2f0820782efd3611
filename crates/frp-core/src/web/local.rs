//! The admin API on a unix socket in the state directory, for the commands of the same user: it
//! needs no configuration and no password, and nobody else can open it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{not_found, serve_conn};
use crate::{state, task};

/// Where the socket of one program is that runs with one configuration: below the state directory
/// `dir`, by the name of `config`, so that several of them can share the directory.
pub fn path(dir: &Path, program: &str, config: Option<&Path>) -> PathBuf {
    let identity = match config {
        Some(config) => config.canonicalize().unwrap_or_else(|_| config.to_owned()),
        None => PathBuf::new(),
    };
    // FNV-1a: the same in every build, since another build may ask.
    let hash = identity
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    dir.join(format!("{program}-{hash:016x}.sock"))
}

/// Where a command finds the socket of the program that runs with `config` and the state directory
/// that is configured. Where none is, it may be a service that has its own below `/var/lib`.
pub fn find(configured: Option<&Path>, program: &str, config: Option<&Path>) -> Option<PathBuf> {
    let stem = config.and_then(Path::file_stem).unwrap_or_default();
    let services = [
        format!("/var/lib/{program}"),
        // That of a unit with an instance's name, which is also its file's.
        format!("/var/lib/{program}-{}", stem.to_string_lossy()),
    ];
    let services = services.iter().map(PathBuf::from);
    let paths: Vec<_> = state::directory(configured, program)
        .into_iter()
        .chain(services.filter(|_| configured.is_none()))
        .map(|dir| path(&dir, program, config))
        .collect();
    let there = paths.iter().find(|path| path.exists()).cloned();
    there.or_else(|| paths.into_iter().next())
}

/// A socket that commands can connect to. It is taken away when this is dropped.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, which tell it from one that has taken its place.
    identity: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Another process with the same configuration answers there.
    #[error("another process with this configuration has {}", .0.display())]
    Taken(PathBuf),
    /// What is there is not to be replaced.
    #[error("{} is there and is no socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {}: {source}", path.display())]
    Io {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LocalSocket {
    /// Listens at `path`. What a process has left there that has ended is replaced. Only the owner
    /// can connect, from the first moment on.
    pub fn bind(path: &Path) -> Result<Self, LocalError> {
        let failed = |source| LocalError::Io {
            path: path.to_owned(),
            source,
        };
        match fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(LocalError::NoSocket(path.to_owned()));
            }
            Ok(_) if Name::of(path).and_then(|name| name.connect()).is_ok() => {
                return Err(LocalError::Taken(path.to_owned()));
            }
            Ok(_) | Err(_) => {}
        }
        // It gets its mode before it listens and its name after that, so nobody meets it unfinished.
        let temp = path.with_extension(format!("{}", std::process::id()));
        let _ = fs::remove_file(&temp);
        let bound = (|| {
            let socket = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                None,
            )?;
            rustix::net::bind(&socket, &Name::of(&temp)?.address()?)?;
            fs::set_permissions(&temp, Permissions::from_mode(0o600))?;
            rustix::net::listen(&socket, BACKLOG)?;
            let meta = fs::symlink_metadata(&temp)?;
            fs::rename(&temp, path)?;
            let listener = UnixListener::from_std(socket.into())?;
            Ok((listener, (meta.dev(), meta.ino())))
        })();
        match bound {
            Ok((listener, identity)) => Ok(Self {
                listener,
                path: path.to_owned(),
                identity,
            }),
            Err(source) => {
                let _ = fs::remove_file(&temp);
                Err(failed(source))
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers requests with `app` until the future is dropped.
    pub async fn serve<S>(self, app: Router<S>, state: S)
    where
        S: Clone + Send + Sync + 'static,
    {
        let app: Router = app.fallback(not_found).with_state(state);
        let places = Arc::new(Semaphore::new(PLACES));
        loop {
            // Further ones wait in the system's queue, and are refused when that is full.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((conn, _)) => {
                    let app = app.clone();
                    task::spawn("local conn", async move {
                        serve_conn(conn, app).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!("cannot accept on {}: {error}", self.path.display());
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        let is_own = fs::symlink_metadata(&self.path)
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity);
        if is_own {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Connects to the socket at `path`.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    // The system answers at once, or says that its queue is full.
    let conn = Name::of(path)?.connect()?;
    conn.set_nonblocking(true)?;
    UnixStream::from_std(conn)
}

/// A path as the system takes it for a socket: in about a hundred bytes. A longer one is named by
/// its directory's descriptor.
struct Name {
    short: PathBuf,
    _directory: Option<File>,
}

impl Name {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self {
                short: path.to_owned(),
                _directory: None,
            });
        }
        let parent = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = File::open(parent)?;
        let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
        Ok(Self {
            short,
            _directory: Some(directory),
        })
    }

    fn address(&self) -> io::Result<SocketAddrUnix> {
        Ok(SocketAddrUnix::new(&self.short)?)
    }

    fn connect(&self) -> io::Result<StdUnixStream> {
        StdUnixStream::connect(&self.short)
    }
}

/// Bytes of a socket's path that every system takes: 104 with the NUL on some, 108 on Linux.
const MAX_SOCKET_PATH: usize = 100;

/// Connections at once. They are commands of one user, and each is over in a moment.
const PLACES: usize = 16;

/// Connections that wait for a place. Beyond it the system refuses, and the command says so.
const BACKLOG: i32 = 16;

/// Between two attempts to accept when the system cannot, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::web::client::{Place, request};
    use axum::http::{Method, StatusCode};
    use axum::routing::get;

    fn app() -> Router<()> {
        Router::new().route("/x", get(async || "answer"))
    }

    async fn ask(path: &Path) -> Result<String, String> {
        let place = Place::Socket(path.to_owned());
        let limit = Duration::from_secs(60);
        let answer = request(&place, Method::GET, "/x", limit).await;
        let (status, body) = answer.map_err(|error| error.to_string())?;
        assert_eq!(status, StatusCode::OK);
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn a_socket_answers_its_owner_alone_and_goes_with_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), "frpc", Some(Path::new("/etc/frpc.toml")));
        let socket = LocalSocket::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            LocalSocket::bind(&path),
            Err(LocalError::Taken(_))
        ));

        let serving = tokio::spawn(socket.serve(app(), ()));
        assert_eq!(ask(&path).await.unwrap(), "answer");
        serving.abort();
        let _ = serving.await;
        assert!(!path.exists());
        assert!(ask(&path).await.is_err());
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "nobody listens there any more");
        let serving = tokio::spawn(LocalSocket::bind(&path).unwrap().serve(app(), ()));
        assert_eq!(ask(&path).await.unwrap(), "answer");
        serving.abort();

        let file = dir.path().join("f.sock");
        fs::write(&file, "mine").unwrap();
        assert!(matches!(
            LocalSocket::bind(&file),
            Err(LocalError::NoSocket(_))
        ));
        assert_eq!(fs::read(&file).unwrap(), b"mine");
    }

    #[tokio::test]
    async fn a_state_directory_may_have_a_name_that_is_too_long_for_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("d".repeat(120));
        fs::create_dir(&long).unwrap();
        let path = path(&long, "frps", None);
        assert!(path.as_os_str().len() > 108);
        let serving = tokio::spawn(LocalSocket::bind(&path).unwrap().serve(app(), ()));
        assert_eq!(ask(&path).await.unwrap(), "answer");
        serving.abort();
    }

    #[tokio::test]
    async fn unfinished_requests_do_not_keep_the_next_one_away_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let serving = tokio::spawn(LocalSocket::bind(&path).unwrap().serve(app(), ()));
        let mut idle = Vec::new();
        for _ in 0..PLACES {
            idle.push(connect(&path).await.unwrap());
        }
        // Served when the time for a request's head is over for one of them.
        assert_eq!(ask(&path).await.unwrap(), "answer");
        serving.abort();
    }
}
