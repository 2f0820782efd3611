//! Entry points shared by the fuzz targets and by the tests that run their corpus.

use crate::config;

/// A configuration file: of either program, under a name that decides the format and under one that
/// does not. Neither files nor the process's environment are looked at.
pub fn config_bytes(data: &[u8]) {
    config::read_any_bytes(data);
}
