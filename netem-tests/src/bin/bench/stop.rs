//! Ctrl-C: what is being measured is given up, and everything that was started is taken down.

use anyhow::{Result, bail};

pub(crate) use netem_tests::interrupt::{is_asked_for, listen};

/// Fails once somebody has asked for the end.
pub(crate) fn check() -> Result<()> {
    if is_asked_for() {
        bail!("somebody asked for the end");
    }
    Ok(())
}
