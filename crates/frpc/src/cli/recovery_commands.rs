//! The commands about the history of the configuration and about recovery: ours.

use clap::{Args, Subcommand};

use super::AdminFlags;

/// The commands below `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// List the versions that were applied: when, why, and whether they work
    ///
    /// The version that runs is marked with a star. Without a running frpc the versions are read
    /// from the state directory.
    ///
    /// Exit code: 0, or 1 when there is no history to be had.
    History {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// How to ask.
        #[command(flatten)]
        flags: AdminFlags,
    },
    /// Show what differs between two versions
    ///
    /// `frpc config diff` compares the newest version with the one before it, `frpc config diff A`
    /// compares version A with the newest, and `frpc config diff A B` A with B. The word `file`
    /// stands for the file as it is. Secrets are shown as they stand in the files.
    ///
    /// Exit code: 0, also when nothing differs, or 1 on an error.
    Diff {
        /// The older version, or `file`
        a: Option<String>,
        /// The newer version, or `file`
        b: Option<String>,
        /// Timeout for admin API calls
        #[arg(long, default_value = "30s", value_parser = super::values::parse_duration)]
        api_timeout: std::time::Duration,
    },
    /// Go back to a version: without a number, to the last one that worked before what runs
    ///
    /// The running frpc takes it at once. If more than proxies and visitors differs it begins anew,
    /// and users' connections end. The file is left as it is, unless --write is there: then a
    /// restart stays with this version as well, and no running frpc is needed.
    ///
    /// Exit code: 0, or 1 when it was not done.
    Rollback {
        /// The version
        number: Option<u64>,
        /// Put the version's text into the configuration file as well
        #[arg(long)]
        write: bool,
        /// Timeout for admin API calls
        #[arg(long, default_value = "30s", value_parser = super::values::parse_duration)]
        api_timeout: std::time::Duration,
    },
}

/// What `recovery` takes.
#[derive(Args, Clone, Debug)]
pub struct RecoveryArgs {
    /// Without one, where recovery stands is shown.
    #[command(subcommand)]
    pub command: Option<RecoveryCommand>,
    /// Print JSON instead of lines
    #[arg(long)]
    pub json: bool,
    /// Timeout for admin API calls
    #[arg(long, default_value = "30s", value_parser = super::values::parse_duration)]
    pub api_timeout: std::time::Duration,
}

/// The commands below `recovery`.
#[derive(Clone, Debug, Subcommand)]
pub enum RecoveryCommand {
    /// Turn a part on, until the program ends
    On {
        /// history, confirm, watch, reprobe, switch, login, restart, rollback or alerts
        part: String,
    },
    /// Turn a part off, until the program ends
    Off {
        /// history, confirm, watch, reprobe, switch, login, restart, rollback or alerts
        part: String,
    },
}
