//! What the service manager is told that has started the program: systemd, by its notify protocol.
//!
//! Everything here does nothing where nobody asks (`NOTIFY_SOCKET` is not set). What is sent goes
//! from a thread that may block: a manager that is slow to read must not hold up users' bytes.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// Says whether somebody wants to hear.
pub fn is_listening() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The program has started, or has done what it was reloading for.
pub async fn ready() {
    tell(|| sd_notify::notify(&[NotifyState::Ready])).await;
    changed();
}

/// The program takes over another configuration; [`ready`] follows.
pub async fn reloading() {
    // Managers from version 253 on want to know since when, in the same message.
    tell(|| sd_notify::notify(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?])).await;
}

/// The program is about to end.
pub async fn stopping() {
    tell(|| sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")])).await;
}

/// Where the program stands, in a plain line.
pub async fn status(text: String) {
    tell(move || sd_notify::notify(&[NotifyState::Status(&text)])).await;
}

/// Tells the manager that the program works, and where it stands, until the handle is dropped.
///
/// Signs of life go out at half the time after which the manager takes the program for hung
/// (`WatchdogSec=`). Each needs a turn on the runtime that also carries users' bytes: where no task
/// gets one any more, the manager starts the program again.
pub fn report(
    status_now: impl Fn() -> String + Send + 'static,
) -> Option<(AbortOnDropHandle<()>, AbortOnDropHandle<()>)> {
    if !is_listening() {
        return None;
    }
    Some((
        AbortOnDropHandle::new(spawn_signs_of_life(sd_notify::watchdog_enabled())),
        AbortOnDropHandle::new(crate::task::spawn("status for systemd", async move {
            let mut told = String::new();
            loop {
                let text = status_now();
                if text != told {
                    status(text.clone()).await;
                    told = text;
                }
                // Elapsed or woken: one look either way.
                let _ = tokio::time::timeout(STATUS_INTERVAL, CHANGED.notified()).await;
            }
        })),
    ))
}

/// The status may be another one by now, and is worth a look before its turn.
pub fn changed() {
    CHANGED.notify_one();
}

/// Wakes whoever tells the status.
static CHANGED: Notify = Notify::const_new();

fn spawn_signs_of_life(limit: Option<Duration>) -> JoinHandle<()> {
    crate::task::spawn("watchdog", async move {
        let Some(interval) = limit.map(|limit| limit / 2).filter(|half| !half.is_zero()) else {
            return;
        };
        loop {
            tell(|| sd_notify::notify(&[NotifyState::Watchdog])).await;
            tokio::time::sleep(interval).await;
        }
    })
}

/// Sends something. A manager that cannot be told is no reason to do anything else differently.
async fn tell(send: impl FnOnce() -> std::io::Result<()> + Send + 'static) {
    if !is_listening() {
        return;
    }
    let sent = tokio::task::spawn_blocking(send);
    match tokio::time::timeout(SEND_LIMIT, sent).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::debug!("cannot tell the service manager: {error}"),
        Ok(Err(error)) => tracing::debug!("cannot tell the service manager: {error}"),
        Err(_) => tracing::debug!("the service manager does not read what it is told"),
    }
}

/// How old a status may be: an operator who has just done something looks at it after seconds, and
/// an idle program is not to wake for more.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// How long a message may take. Past that the program goes on; the thread that waits for the
/// manager ends with the program.
const SEND_LIMIT: Duration = Duration::from_secs(2);
