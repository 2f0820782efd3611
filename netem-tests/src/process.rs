//! A running program: its log as it grows, its exit, and what it costs.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{PATIENCE, Place};

/// A started program. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Log>,
}

impl Process {
    /// Starts `program` with `args`, in the directory `dir` and with next to no environment.
    ///
    /// What the environment of a test run holds (a proxy to the Internet, settings of ours) must
    /// not reach the programs; frp's own tests empty it as well.
    pub fn start(name: &str, program: &Path, args: &[&str], dir: &Path) -> Result<Self> {
        Self::start_in(None, name, program, args, dir)
    }

    /// The same, in a place of a lab if there is one.
    pub fn start_in(
        place: Option<&Place>,
        name: &str,
        program: &Path,
        args: &[&str],
        dir: &Path,
    ) -> Result<Self> {
        let mut command = command(program, args, dir, name);
        if let Some(place) = place {
            place.contain(&mut command);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;

        let log = Arc::new(Log::default());
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr);
        }
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Runs `program` to its end and returns its exit status and all it printed.
    pub fn run(
        place: Option<&Place>,
        program: &Path,
        args: &[&str],
        dir: &Path,
        patience: Duration,
    ) -> Result<(ExitStatus, String)> {
        let mut process = Self::start_in(place, "command", program, args, dir)?;
        let status = process.wait_for_exit_within(patience)?;
        Ok((status, process.log.wait_for_end()))
    }

    /// Waits until a line of the log contains `text`, and returns that line.
    pub fn wait_for_line(&self, text: &str) -> Result<String> {
        self.wait_for_line_after(Mark(0), text)
    }

    /// Waits for a line that contains `text` and was not yet there at `mark`.
    pub fn wait_for_line_after(&self, mark: Mark, text: &str) -> Result<String> {
        self.log
            .wait_for(mark.0, text)
            .with_context(|| format!("{} did not print \"{text}\"", self.name))
    }

    /// Remembers how long the log is.
    pub fn mark(&self) -> Mark {
        Mark(self.log.state().lines.len())
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.log.state().text()
    }

    /// Returns the lines so far, and when each of them came.
    pub fn lines(&self) -> Vec<(Instant, String)> {
        self.lines_after(Mark(0))
    }

    /// Returns the lines that were not yet there at `mark`, and when each of them came.
    pub fn lines_after(&self, mark: Mark) -> Vec<(Instant, String)> {
        let state = self.log.state();
        state.lines.get(mark.0..).unwrap_or_default().to_vec()
    }

    /// Ends the program as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the program to end, as a service manager does.
    pub fn terminate(&self) -> Result<()> {
        send_signal(self.child.id(), libc::SIGTERM)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until the program has ended by itself.
    pub fn wait_for_exit(&mut self) -> Result<ExitStatus> {
        self.wait_for_exit_within(PATIENCE)
    }

    fn wait_for_exit_within(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        // std has no wait with a deadline, and a thread for it would have to own the child.
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!("{} did not end within {patience:?}", self.name)
    }

    /// Says whether the program is still running.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Returns how many descriptors it holds: files, sockets, pipes.
    pub fn n_descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }

    /// Returns how many threads it has.
    pub fn n_threads(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.child.id()))?.count())
    }

    /// Returns the CPU time it has used, in user space and in the kernel.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold spaces. After it, utime and stime are fields 12 and 13.
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
        let mut times = fields.split_whitespace().skip(11).take(2);
        let mut ticks = 0;
        for _ in 0..2 {
            ticks += times
                .next()
                .context("/proc/PID/stat is short")?
                .parse::<u64>()?;
        }
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Returns the memory it holds at this moment, in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// Returns the memory that it shares with no other process, in KiB.
    pub fn own_kib(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("Private_"));
        let mut kib = 0;
        for line in lines {
            let (_, value) = line.split_once(':').context("no value in smaps_rollup")?;
            kib += value.trim().trim_end_matches(" kB").parse::<u64>()?;
        }
        Ok(kib)
    }

    /// Returns the most memory it has ever held, in KiB.
    pub fn peak_rss_kib(&self) -> Result<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, key: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .with_context(|| format!("no {key} in /proc/PID/status"))?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            report_log(&self.name, &self.log.wait_for_end());
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.child.id())
    }
}

/// A place in a log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(usize);

/// The lines a program has printed, in the order in which they came.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    lines: Vec<(Instant, String)>,
    n_open_pipes: usize,
}

impl LogState {
    fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(|(_, line)| line.as_str()).collect();
        lines.join("\n")
    }
}

impl Log {
    /// Collects the lines of `pipe` on a thread of its own, until the program closes it.
    fn follow(self: &Arc<Self>, pipe: impl Read + Send + 'static) {
        self.state().n_open_pipes += 1;
        let log = Arc::clone(self);
        thread::spawn(move || {
            let mut reader = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                log.state().lines.push((Instant::now(), text));
                log.changed.notify_all();
            }
            log.state().n_open_pipes -= 1;
            log.changed.notify_all();
        });
    }

    fn wait_for(&self, first: usize, text: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        let mut n_seen = first;
        loop {
            let new = state.lines.get(n_seen..).unwrap_or_default();
            if let Some((_, line)) = new.iter().find(|(_, line)| line.contains(text)) {
                return Ok(line.clone());
            }
            n_seen = n_seen.max(state.lines.len());
            if state.n_open_pipes == 0 {
                bail!("it has ended; its log:\n{}", state.text());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("waited {PATIENCE:?}; its log:\n{}", state.text());
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until the ended program's last line is in, and returns all.
    fn wait_for_end(&self) -> String {
        let state = self.state();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| state.n_open_pipes > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.text()
    }

    fn state(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn command(program: &Path, args: &[&str], dir: &Path, name: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("STATE_DIRECTORY", dir.join(format!("{name}.state")))
        .env("RUST_BACKTRACE", "1");
    let authorities = dir.join(AUTHORITIES);
    if authorities.exists() {
        command.env("SSL_CERT_FILE", authorities);
    }
    command
}

/// The file, in the directory of a program, with the authorities that it is to trust instead of the
/// system's. Without it, the system's.
pub(crate) const AUTHORITIES: &str = "authorities.pem";

fn send_signal(pid: u32, signal: libc::c_int) -> Result<()> {
    let pid = libc::pid_t::try_from(pid)?;
    #[expect(unsafe_code, reason = "std can only send SIGKILL")]
    // SAFETY: kill takes two integers and touches no memory of ours. The child has not been waited
    // for, or its handle would say so, so the number is still its own.
    let result = unsafe { libc::kill(pid, signal) };
    if result != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "a failing test shows what the programs said"
)]
fn report_log(name: &str, log: &str) {
    let lines: Vec<&str> = log.lines().collect();
    let first = lines.len().saturating_sub(REPORTED_LINES);
    eprintln!("---- the last lines of {name}:");
    for line in &lines[first..] {
        eprintln!("{line}");
    }
}

/// `USER_HZ`, the unit of times in `/proc`: 100 on every Linux that Rust's standard library runs on.
const TICKS_PER_SECOND: u64 = 100;

/// How much of a log a failing test prints.
const REPORTED_LINES: usize = 60;
