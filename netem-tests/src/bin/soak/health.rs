//! What the programs hold, and whether that grows.

use std::time::{Duration, Instant};

use anyhow::Result;
use netem_tests::Pair;

/// What both programs held at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) rss_kib: [u64; 2],
    pub(crate) n_descriptors: [usize; 2],
    pub(crate) n_threads: [usize; 2],
    /// The server's.
    pub(crate) n_tasks: usize,
    pub(crate) n_users: usize,
}

impl Sample {
    /// Takes one of a pair that runs.
    pub(crate) fn take(start: Instant, pair: &Pair, n_users: usize) -> Result<Self> {
        let (server, client) = (pair.server()?, pair.client()?);
        Ok(Self {
            at: start.elapsed(),
            rss_kib: [server.rss_kib()?, client.rss_kib()?],
            n_descriptors: [server.n_descriptors()?, client.n_descriptors()?],
            n_threads: [server.n_threads()?, client.n_threads()?],
            n_tasks: pair.n_server_tasks()?,
            n_users,
        })
    }
}

/// Says what has grown between the first time of rest and the last one, or nothing.
///
/// Both are looks at programs that nobody uses. What they hold then is what they have kept: a user
/// who has gone must leave nothing. Allocators keep some of what was freed, hence the room.
pub(crate) fn growth(early: &Sample, late: &Sample) -> Vec<String> {
    let mut grown = Vec::new();
    let [was, is] = [early.n_tasks, late.n_tasks];
    if is > was + TASKS_ROOM {
        grown.push(format!("tasks of frps grew from {was} to {is}"));
    }
    for (number, name) in ["frps", "frpc"].into_iter().enumerate() {
        let [was, is] = [early.n_descriptors[number], late.n_descriptors[number]];
        if is > was + DESCRIPTORS_ROOM {
            grown.push(format!("descriptors of {name} grew from {was} to {is}"));
        }
        let [was, is] = [early.n_threads[number], late.n_threads[number]];
        if is > was + THREADS_ROOM {
            grown.push(format!("threads of {name} grew from {was} to {is}"));
        }
        let [was, is] = [early.rss_kib[number], late.rss_kib[number]];
        if is > was + was / 2 + RSS_ROOM_KIB {
            grown.push(format!(
                "memory of {name} grew from {:.1} to {:.1} MiB",
                was as f64 / 1024.0,
                is as f64 / 1024.0
            ));
        }
    }
    grown
}

/// A standby more or less, an attempt under way, a connection in its last moments.
const DESCRIPTORS_ROOM: usize = 12;

/// An attempt under way, a standby more or less: some tasks each.
const TASKS_ROOM: usize = 16;

/// Threads that block for a moment, for files and names, come and go.
const THREADS_ROOM: usize = 8;

/// What an allocator may keep of the worst moment beside half of what was held early on.
const RSS_ROOM_KIB: u64 = 24 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_beyond_its_room_is_named() {
        let early = sample(20_000, 30);
        assert!(growth(&early, &sample(40_000, 40)).is_empty());

        let grown = growth(&early, &sample(80_000, 50));

        assert_eq!(grown.len(), 5, "{grown:?}");
        assert_eq!(grown[1], "descriptors of frps grew from 30 to 50");
    }

    fn sample(rss_kib: u64, n_descriptors: usize) -> Sample {
        Sample {
            at: Duration::ZERO,
            rss_kib: [rss_kib; 2],
            n_descriptors: [n_descriptors; 2],
            n_threads: [4; 2],
            n_tasks: n_descriptors,
            n_users: 0,
        }
    }
}
