//! Finds the executables under test.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A build of `frps` and `frpc`.
#[derive(Clone, Debug)]
pub struct Programs {
    name: &'static str,
    frps: PathBuf,
    frpc: PathBuf,
}

impl Programs {
    /// Returns the programs of this workspace: those in `BIN_DIR` when it is set, else
    /// those that cargo built into the directory of the running test.
    pub fn ours() -> Result<Self> {
        match directory_from_env("BIN_DIR") {
            Some(dir) => Self::in_directory("holdfast", &dir),
            None => Self::in_directory("holdfast", &own_build_directory()?)
                .context("build them first: cargo build -p frps -p frpc"),
        }
    }

    /// Returns Go frp from `FRP_PEER_DIR`, or nothing when that is not set.
    pub fn peer() -> Result<Option<Self>> {
        directory_from_env("FRP_PEER_DIR")
            .map(|dir| Self::in_directory("frp", &dir).context("FRP_PEER_DIR is wrong"))
            .transpose()
    }

    /// Returns the name that reports use: `holdfast` or `frp`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the path of the server.
    pub fn frps(&self) -> &Path {
        &self.frps
    }

    /// Returns the path of the client.
    pub fn frpc(&self) -> &Path {
        &self.frpc
    }

    fn in_directory(name: &'static str, dir: &Path) -> Result<Self> {
        // Tests run in the directory of their crate, and a user's relative path means the root's.
        let dir = dir
            .canonicalize()
            .with_context(|| format!("no directory {}", dir.display()))?;
        let programs = Self {
            name,
            frps: dir.join("frps"),
            frpc: dir.join("frpc"),
        };
        for program in [&programs.frps, &programs.frpc] {
            if !program.is_file() {
                bail!("there is no {}", program.display());
            }
        }
        Ok(programs)
    }
}

/// Whose server runs with whose client.
#[derive(Clone, Debug)]
pub struct Sides {
    /// Where `frps` comes from.
    pub server: Programs,
    /// Where `frpc` comes from.
    pub client: Programs,
}

impl Sides {
    /// Our server with our client.
    pub fn ours() -> Result<Self> {
        let ours = Programs::ours()?;
        Ok(Self {
            server: ours.clone(),
            client: ours,
        })
    }
}

fn directory_from_env(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Test executables lie in `target/<profile>/deps`, programs one directory above.
fn own_build_directory() -> Result<PathBuf> {
    let exe = env::current_exe().context("cannot find the path of the running program")?;
    let dir = exe
        .parent()
        .context("the running program has no directory")?;
    if dir.ends_with("deps") {
        return Ok(dir.parent().unwrap_or(dir).to_path_buf());
    }
    Ok(dir.to_path_buf())
}
