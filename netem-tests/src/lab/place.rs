//! A side of a lab: a network namespace with its end of the link.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, panic, thread};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{DEVICE, leftovers, system};

/// A network of its own, in which programs run and sockets live. Clones are the same place.
#[derive(Clone)]
pub struct Place(Arc<Inner>);

struct Inner {
    name: String,
    namespace: OwnedFd,
    address: Mutex<Ipv4Addr>,
}

impl Place {
    /// Makes a network that has nothing but loopback.
    pub(crate) fn new(name: &str, address: Ipv4Addr) -> Result<Self> {
        let place = Self(Arc::new(Inner {
            name: name.to_owned(),
            namespace: system::new_network_namespace()?,
            address: Mutex::new(address),
        }));
        place.run("ip", &["link", "set", "lo", "up"])?;
        // What one run has learned of a link must not speed up or slow down the next one.
        place.set("net/ipv4/tcp_no_metrics_save", "1")?;
        place.use_cubic()?;
        Ok(place)
    }

    /// Returns the name: of the lab and of the side.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the address under which the other side reaches this one at the moment.
    pub fn address(&self) -> IpAddr {
        IpAddr::V4(self.ipv4())
    }

    /// Returns a command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        self.contain(&mut command);
        command
    }

    /// Makes a command that is not yet started run inside.
    pub fn contain(&self, command: &mut Command) {
        // Fails only when the process has no descriptor left, and then the command, which is not
        // to run outside, does not start either: it inherits an error to report.
        match self.0.namespace.try_clone() {
            Ok(namespace) => {
                command.env(leftovers::MARK, leftovers::own_mark());
                system::start_inside(command, namespace);
            }
            Err(_) => *command = Command::new("/dev/null/out-of-file-descriptors"),
        }
    }

    /// Runs `work` on a thread inside, and returns what it returns. Sockets that it opens and
    /// threads that it starts belong inside for good.
    ///
    /// # Panics
    ///
    /// When `work` does, and when the thread cannot enter, which only a process without the
    /// privileges that made this place can see.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let inside = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let entered = system::enter_namespace(self.0.namespace.as_fd());
                assert!(entered.is_ok(), "cannot enter {}: {entered:?}", self.0.name);
                work()
            });
            thread.join()
        });
        inside.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    }

    /// Runs a program of the system to its end, and fails with what it said when it fails.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let output = self
            .command(program)
            .args(args)
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{}: {program} {}: {}",
                self.0.name,
                args.join(" "),
                said.trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same for a program that reads its input.
    pub(crate) fn run_with_input(&self, program: &str, args: &[&str], input: &str) -> Result<()> {
        let mut child = self
            .command(program)
            .args(args)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{}: {program}: {}
{input}",
                self.0.name,
                said.trim()
            );
        }
        Ok(())
    }

    /// Turns off IPv6 for an interface: a kernel that asks for routers would send packets that no
    /// test knows of. `device` may be `default`, for all that come.
    pub(crate) fn turn_off_ipv6(&self, device: &str) -> Result<()> {
        if !self.enter(|| Path::new("/proc/sys/net/ipv6").exists()) {
            return Ok(());
        }
        self.set(&format!("net/ipv6/conf/{device}/disable_ipv6"), "1")
    }

    /// Makes Cubic the congestion control of new connections, whatever the machine prefers: most
    /// machines have it, and frp was measured with it.
    fn use_cubic(&self) -> Result<()> {
        if self.set(CONGESTION_CONTROL, "cubic").is_ok() {
            return Ok(());
        }
        // Where it is not the default, a namespace may only have it once the machine lets every
        // user have it. That costs nobody anything.
        let path = format!("/proc/sys/{ALLOWED_CONGESTION_CONTROLS}");
        let allowed = fs::read_to_string(&path)?;
        fs::write(&path, format!("{} cubic", allowed.trim()))
            .with_context(|| format!("cannot allow cubic in {path}"))?;
        self.set(CONGESTION_CONTROL, "cubic")
    }

    /// Sets a kernel setting (`sysctl`) of this network.
    pub(crate) fn set(&self, key: &str, value: &str) -> Result<()> {
        self.enter(|| fs::write(format!("/proc/sys/{key}"), value))
            .with_context(|| format!("{}: cannot set {key} to {value}", self.0.name))
    }

    pub(crate) fn ipv4(&self) -> Ipv4Addr {
        *self
            .0
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a path by which other programs find this network while this process lives.
    pub(crate) fn namespace_path(&self) -> String {
        let number = self.0.namespace.as_raw_fd();
        format!("/proc/{}/fd/{number}", std::process::id())
    }

    /// Takes the address of the link away.
    pub(crate) fn remove_address(&self) -> Result<()> {
        let address = format!("{}/24", self.ipv4());
        self.run("ip", &["address", "delete", &address, "dev", DEVICE])?;
        Ok(())
    }

    /// Gives the link an address.
    pub(crate) fn add_address(&self, address: Ipv4Addr) -> Result<()> {
        let prefix = format!("{address}/24");
        self.run("ip", &["address", "add", &prefix, "dev", DEVICE])?;
        *self
            .0
            .address
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = address;
        Ok(())
    }

    /// Ends every program that still runs inside.
    pub(crate) fn end_all(&self) {
        let Ok(own) = rustix::fs::fstat(&self.0.namespace) else {
            return;
        };
        let Ok(processes) = fs::read_dir("/proc") else {
            return;
        };
        for entry in processes.flatten() {
            let is_inside = rustix::fs::stat(entry.path().join("ns/net"))
                .is_ok_and(|other| (other.st_dev, other.st_ino) == (own.st_dev, own.st_ino));
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(id) = id.filter(|_| is_inside).and_then(Pid::from_raw) {
                // It may have ended by itself.
                let _ = kill_process(id, Signal::KILL);
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.name, self.ipv4())
    }
}

const CONGESTION_CONTROL: &str = "net/ipv4/tcp_congestion_control";
const ALLOWED_CONGESTION_CONTROLS: &str = "net/ipv4/tcp_allowed_congestion_control";
