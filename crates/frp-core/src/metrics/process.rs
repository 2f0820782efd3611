//! The process and the build: first the names that Go's own collector has.

use super::exposition::Exposition;
use super::kind::Kind;

/// Writes what the system says of this process, and what was built. On a system without `/proc`
/// only the latter.
pub fn write(out: &mut Exposition) {
    let build = [
        ("frp_version", FRP_VERSION),
        ("version", env!("CARGO_PKG_VERSION")),
    ];
    out.family(
        "holdfast_build_info",
        Kind::Gauge,
        "Which program this is; the value is always 1.",
    )
    .add(&build, 1.0);
    let Some(process) = Process::read() else {
        return;
    };
    let mut one = |name, kind, help, value: f64| out.family(name, kind, help).add(&[], value);
    one(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Total user and system CPU time spent in seconds.",
        process.cpu_seconds,
    );
    one(
        "process_open_fds",
        Kind::Gauge,
        "Number of open file descriptors.",
        process.n_fds,
    );
    one(
        "process_max_fds",
        Kind::Gauge,
        "Maximum number of open file descriptors.",
        process.max_fds,
    );
    one(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory size in bytes.",
        process.resident_bytes,
    );
    one(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Virtual memory size in bytes.",
        process.virtual_bytes,
    );
    one(
        "process_start_time_seconds",
        Kind::Gauge,
        "Start time of the process since unix epoch in seconds.",
        process.started,
    );
    one(
        "holdfast_process_threads",
        Kind::Gauge,
        "Threads of the process.",
        process.n_threads,
    );
}

/// The version of frp that this is a drop-in for.
const FRP_VERSION: &str = "0.70.1";

/// What the system says, as the numbers that Prometheus takes.
struct Process {
    cpu_seconds: f64,
    n_fds: f64,
    max_fds: f64,
    n_threads: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    started: f64,
}

impl Process {
    /// `None` where there is no `/proc`.
    #[expect(clippy::cast_precision_loss, reason = "numbers far below 2^52")]
    fn read() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The program's name is in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // proc(5) counts from 1, and two fields are gone.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let (user_ticks, system_ticks) = (field(14)?, field(15)?);
        let (n_threads, started_ticks, virtual_bytes) = (field(20)?, field(22)?, field(23)?);
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib: f64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        let system = std::fs::read_to_string("/proc/stat").ok()?;
        let booted = system
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?;
        let booted: f64 = booted.trim().parse().ok()?;
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Some(Self {
            cpu_seconds: (user_ticks + system_ticks) / TICKS_PER_SECOND,
            n_fds: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
            max_fds: limit.current.map_or(f64::INFINITY, |n| n as f64),
            n_threads,
            resident_bytes: resident_kib * 1024.0,
            virtual_bytes,
            started: booted + started_ticks / TICKS_PER_SECOND,
        })
    }
}

/// Linux reports CPU time in this unit on every architecture that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_described() {
        let process = Process::read().unwrap();
        assert!(process.n_fds > 0.0 && process.resident_bytes > 0.0 && process.n_threads > 0.0);
        assert!(process.virtual_bytes >= process.resident_bytes);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap().as_secs_f64();
        assert!(process.started > now - 3600.0 * 24.0 && process.started < now + 2.0);
    }
}
