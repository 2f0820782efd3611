//! A command: started for each message, with the message on its standard input and in its
//! environment.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::Message;

/// Starts `program` and waits for its end. Whoever calls this bounds its time: a command that is
/// still there when the future is dropped is killed, with all that it has started and not moved
/// elsewhere.
pub(super) async fn run(
    program: &str,
    args: &[String],
    message: &Message,
    body: Vec<u8>,
) -> Result<(), String> {
    let child = Command::new(program)
        .args(args)
        .env("HOLDFAST_ALERT_STATE", message.state)
        .env("HOLDFAST_ALERT_LEVEL", message.level)
        .env("HOLDFAST_ALERT_KEY", &message.key)
        .env("HOLDFAST_ALERT_SUMMARY", message.summary.replace('\0', " "))
        .env("HOLDFAST_ALERT_CLIENT", &message.client)
        .env("HOLDFAST_ALERT_SERVER", &message.server)
        .env("HOLDFAST_ALERT_SINCE", message.since.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Its children are in its group, and so end with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    let mut running = Running(child);
    if let Some(mut stdin) = running.0.stdin.take() {
        // A command that does not read it may have all it wants in its environment.
        let _ = stdin.write_all(&body).await;
    }
    let status = running.0.wait().await.map_err(|error| error.to_string())?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{program} ended with {status}")),
    }
}

/// A command that ends, with its group, when nobody waits for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // There is no number once it has been waited for: the group may be somebody else's by then.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            // An error means that it is gone.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
