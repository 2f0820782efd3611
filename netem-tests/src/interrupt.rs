//! Ctrl-C, for programs that take down what they have started.

use std::sync::atomic::{AtomicBool, Ordering};

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Lets the first Ctrl-C, or request to end, be noticed by [`is_asked_for`]. The second one ends
/// the program on the spot.
pub fn listen() {
    extern "C" fn on_signal(signal: libc::c_int) {
        STOPPED.store(true, Ordering::Relaxed);
        #[expect(unsafe_code, reason = "a handler is set by libc")]
        // SAFETY: signal(2) may be called in a handler, and SIG_DFL is always valid.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        #[expect(unsafe_code, reason = "std has no signal handlers")]
        // SAFETY: the handler only touches an atomic and calls what is safe in a handler.
        unsafe {
            libc::signal(signal, on_signal as *const () as libc::sighandler_t);
        }
    }
}

/// Says whether somebody has asked for the end.
pub fn is_asked_for() -> bool {
    STOPPED.load(Ordering::Relaxed)
}
