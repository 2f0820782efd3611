//! Checked `auth`: the token, or where it comes from.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::Command;

use super::Secret;

/// How a client proves itself (`auth`). The method is always `token`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// The token. Empty when there is none, or when it has a source: see [`resolve_token`].
    pub token: Secret,
    /// Where the token comes from instead. Excludes `token`.
    pub token_source: Option<TokenSource>,
    /// What else carries a key. Both ends must agree.
    pub additional_scopes: AuthScopes,
}

/// The messages besides `Login` that carry a key (`auth.additionalScopes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthScopes {
    /// `Ping`.
    pub heart_beats: bool,
    /// `NewWorkConn`.
    pub new_work_conns: bool,
}

/// Where a token comes from (`auth.tokenSource`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// A file's content.
    File {
        /// The file, relative to the working directory.
        path: PathBuf,
    },
    /// What a program prints.
    Exec {
        /// The program, looked up in `PATH`.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// What is added to its environment.
        env: Vec<(String, Secret)>,
    },
}

/// The largest token that a source may give. A token goes through MD5 and needs no size; the bound
/// only keeps a wrong path (`/dev/zero`) from filling the memory.
const MAX_TOKEN_LEN: u64 = 64 * 1024;

/// Fetches the token: the one of the file, or the one that the source gives at this moment, without
/// surrounding blanks. Blocks while it reads a file or waits for a program; called once at start.
pub fn resolve_token(auth: &AuthConfig) -> Result<Secret, TokenError> {
    match &auth.token_source {
        None => Ok(auth.token.clone()),
        Some(TokenSource::File { path }) => File::open(path)
            .and_then(read_bounded)
            .map(|token| trimmed(&token))
            .map_err(|source| TokenError::File {
                path: path.clone(),
                source,
            }),
        Some(TokenSource::Exec { command, args, env }) => {
            run(command, args, env).map_err(|cause| TokenError::Exec {
                command: command.clone(),
                cause,
            })
        }
    }
}

/// Runs a program and takes what it prints. Its standard error goes to ours.
fn run(command: &str, args: &[String], env: &[(String, Secret)]) -> Result<Secret, String> {
    let mut child = Command::new(command)
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value.expose())))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(|err| err.to_string())?;
    let output = match child.stdout.take() {
        Some(stdout) => read_bounded(stdout),
        None => Ok(Vec::new()),
    };
    if output.is_err() {
        // It may never end by itself: nobody reads what it prints any more.
        drop(child.kill());
    }
    let status = child.wait().map_err(|err| err.to_string())?;
    let output = output.map_err(|err| err.to_string())?;
    if !status.success() {
        return Err(status.to_string().replace("exit status: ", "exit status "));
    }
    Ok(trimmed(&output))
}

fn read_bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let len = reader.take(MAX_TOKEN_LEN + 1).read_to_end(&mut content)?;
    if len as u64 > MAX_TOKEN_LEN {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("more than {MAX_TOKEN_LEN} bytes"),
        ));
    }
    Ok(content)
}

fn trimmed(bytes: &[u8]) -> Secret {
    Secret::new(String::from_utf8_lossy(bytes).trim())
}

/// The token's source gave none.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error(
        "failed to resolve auth.tokenSource: failed to read file {}: {}",
        path.display(),
        go_text(path, source)
    )]
    File {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program cannot be run, or failed.
    #[error("failed to resolve auth.tokenSource: failed to execute command {command}: {cause}")]
    Exec {
        /// Which one.
        command: String,
        /// Why not.
        cause: String,
    },
}

/// An error about a file as Go words it, since operators match on it.
pub(super) fn go_text(path: &std::path::Path, err: &io::Error) -> String {
    let cause = match err.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => err.to_string(),
    };
    let verb = if err.kind() == io::ErrorKind::IsADirectory {
        "read"
    } else {
        "open"
    };
    format!("{verb} {}: {cause}", path.display())
}
