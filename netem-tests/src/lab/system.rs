//! The calls to Linux that neither std nor rustix has a safe form of.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Makes a network namespace. It lives as long as the returned handle or a process inside.
pub(crate) fn new_network_namespace() -> Result<OwnedFd> {
    // The namespace belongs to a thread, and this one must stay where it is.
    let maker = thread::spawn(|| -> io::Result<OwnedFd> {
        #[expect(unsafe_code, reason = "neither std nor rustix calls this safe")]
        // SAFETY: unshare takes an integer. With this one it moves this thread, which ends here,
        // into a new network, and shares no file descriptors or memory anew.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    });
    maker
        .join()
        .ok()
        .context("the thread that makes a network namespace panicked")?
        .context("cannot make a network namespace")
}

/// Moves the calling thread into a network namespace.
pub(crate) fn enter_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Makes `command` start inside of a network namespace.
pub(crate) fn start_inside(command: &mut Command, namespace: OwnedFd) {
    #[expect(unsafe_code, reason = "what runs between fork and exec is unsafe")]
    // SAFETY: the closure makes one system call with a descriptor that it owns, and allocates
    // nothing: it may run between fork and exec.
    unsafe {
        command.pre_exec(move || enter_namespace(namespace.as_fd()));
    }
}

/// Opens a new TUN device in the namespace of the calling thread: whole IP packets, no offloads,
/// and no waiting. The device is gone when the handle is.
pub(crate) fn open_tun(name: &str) -> Result<OwnedFd> {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("cannot open /dev/net/tun")?;
    let mut request = TunRequest {
        name: [0; libc::IFNAMSIZ],
        flags: TUN_FLAGS,
        padding: [0; 22],
    };
    for (place, byte) in request.name.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    #[expect(unsafe_code, reason = "ioctl")]
    // SAFETY: TUNSETIFF reads and writes an ifreq, 40 bytes, which `TunRequest` is and which lives
    // until the call is over.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("cannot make a TUN device");
    }
    #[expect(unsafe_code, reason = "ioctl")]
    // SAFETY: TUNSETOFFLOAD takes an integer.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, 0) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("cannot turn off offloads of a TUN device");
    }
    Ok(device.into())
}

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct TunRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    padding: [u8; 22],
}

#[expect(clippy::cast_possible_truncation, reason = "both flags fit: 0x1001")]
const TUN_FLAGS: libc::c_short = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;

/// Lets the calling thread run as soon as it has something to do, and wakes it on time. Where the
/// system does not allow that, the link is less exact, and nothing else.
pub(crate) fn run_before_others() {
    #[expect(unsafe_code, reason = "scheduling calls")]
    // SAFETY: all four take integers, and the first two a structure that outlives them. 0 means the
    // calling thread.
    unsafe {
        let mut parameters = libc::sched_param { sched_priority: 0 };
        libc::sched_getparam(0, &raw mut parameters);
        // Above everybody who has inherited a priority from the one who started all this.
        parameters.sched_priority += 1;
        if libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameters) != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, -20);
        }
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
    }
}

/// Says whether this process may do what only root may.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
