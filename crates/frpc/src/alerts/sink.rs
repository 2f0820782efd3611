//! One of those who are told: a queue, and the task that empties it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use frp_core::config::{AlertConfig, AlertTarget};
use frp_core::task;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Message, SinkStatus, command, count, webhook};

/// Somebody who is told.
#[derive(Debug)]
pub(super) struct Sink {
    shared: Arc<Shared>,
    messages: mpsc::Sender<Message>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    config: AlertConfig,
    n_sent: AtomicU64,
    n_failed: AtomicU64,
    n_dropped: AtomicU64,
    error: Mutex<String>,
}

/// Messages that wait for one of them. At the bound new ones are dropped and counted: what waits
/// says already that something is wrong.
const QUEUE_LEN: usize = 64;

/// How long to wait after each attempt that failed. After the last one the message is given up: it
/// is old by then, and the next one waits.
const WAITS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::ZERO,
];

/// Of what went wrong, which may hold what a server said.
const MAX_ERROR_LEN: usize = 200;

impl Sink {
    /// Starts the task.
    pub(super) fn start(config: &AlertConfig) -> Self {
        let shared = Arc::new(Shared {
            config: config.clone(),
            n_sent: AtomicU64::new(0),
            n_failed: AtomicU64::new(0),
            n_dropped: AtomicU64::new(0),
            error: Mutex::default(),
        });
        let (messages, queue) = mpsc::channel(QUEUE_LEN);
        let task = task::spawn("alerts", deliver(shared.clone(), queue));
        Self {
            shared,
            messages,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Queues a message. Returns at once.
    pub(super) fn queue(&self, message: Message) {
        if self.messages.try_send(message).is_err() {
            self.shared.n_dropped.fetch_add(1, Ordering::Relaxed);
            count(self.shared.kind(), "dropped");
        }
    }

    /// What became of its messages.
    pub(super) fn status(&self) -> SinkStatus {
        let shared = &self.shared;
        let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        SinkStatus {
            kind: shared.kind().to_owned(),
            target: shared.target(),
            level: shared.config.level.name().to_owned(),
            sent: get(&shared.n_sent),
            failed: get(&shared.n_failed),
            dropped: get(&shared.n_dropped),
            waiting: self.messages.max_capacity() - self.messages.capacity(),
            error: shared.error.lock().clone(),
        }
    }
}

impl Shared {
    fn kind(&self) -> &'static str {
        match &self.config.target {
            AlertTarget::Webhook { .. } => "webhook",
            AlertTarget::Command { .. } => "command",
        }
    }

    fn target(&self) -> String {
        match &self.config.target {
            AlertTarget::Webhook { url, .. } => url.host_str().unwrap_or_default().to_owned(),
            AlertTarget::Command { program, .. } => program.clone(),
        }
    }

    /// One attempt, within its time.
    async fn attempt(&self, message: &Message) -> Result<(), String> {
        let limit = self.config.timeout;
        let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let attempt = async {
            match &self.config.target {
                AlertTarget::Webhook { url, headers } => webhook::post(url, headers, body).await,
                AlertTarget::Command { program, args } => {
                    command::run(program, args, message, body).await
                }
            }
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(format!("not done within {} s", limit.as_secs())),
        }
    }

    fn note_failure(&self, error: &str) {
        let error: String = error.chars().take(MAX_ERROR_LEN).collect();
        let mut last = self.error.lock();
        if last.is_empty() {
            let (kind, target) = (self.kind(), self.target());
            tracing::warn!("an alert did not reach {kind} {target}: {error}");
        } else {
            tracing::debug!("an alert did not get through: {error}");
        }
        *last = error;
    }
}

async fn deliver(shared: Arc<Shared>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        let mut is_sent = false;
        for wait in WAITS {
            match shared.attempt(&message).await {
                Ok(()) => {
                    is_sent = true;
                    break;
                }
                Err(error) => {
                    count(shared.kind(), "attempt failed");
                    shared.note_failure(&error);
                    tokio::time::sleep(wait).await;
                }
            }
        }
        let (sum, result) = match is_sent {
            true => (&shared.n_sent, "sent"),
            false => (&shared.n_failed, "failed"),
        };
        sum.fetch_add(1, Ordering::Relaxed);
        count(shared.kind(), result);
        if is_sent {
            shared.error.lock().clear();
        }
    }
}
