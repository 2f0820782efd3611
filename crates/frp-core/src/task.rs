//! Tasks whose panic ends only themselves.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// Spawns `future` within the current span. A panic in it is counted, logged once with `name`, and
/// reaches nobody else; whoever waits for the task's effects sees its channels and streams close.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let guarded = Guarded {
        inner: Box::pin(future),
        counted: Counted::new(name),
    };
    tokio::spawn(guarded.in_current_span())
}

/// How many tasks of each name there are, in the order of names.
pub fn counts() -> Vec<(&'static str, usize)> {
    let counts = COUNTS.lock();
    counts.iter().map(|(name, n)| (*name, *n)).collect()
}

/// The names are those in the code, so there are few.
static COUNTS: Mutex<BTreeMap<&'static str, usize>> = Mutex::new(BTreeMap::new());

/// One task among those of its name.
struct Counted(&'static str);

impl Counted {
    fn new(name: &'static str) -> Self {
        *COUNTS.lock().entry(name).or_default() += 1;
        Self(name)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(n) = COUNTS.lock().get_mut(self.0) {
            *n -= 1;
        }
    }
}

/// Catches a panic of each poll. Unwind safety: the future is dropped right after a panic and its
/// state is never looked at again.
///
/// A type of its own and no `async` block: in that the future would have its room twice, where it
/// is handed in and where it runs, and there are thousands of tasks.
struct Guarded<F> {
    inner: Pin<Box<F>>,
    counted: Counted,
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let inner = self.inner.as_mut();
        let panic = match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => return poll,
            Err(panic) => panic,
        };
        let Counted(name) = self.counted;
        metrics::counter!("holdfast_task_panics_total", "task" => name).increment(1);
        tracing::error!(
            "a {name} task panicked and was ended: {}",
            panic_text(&*panic)
        );
        Poll::Ready(())
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::{counts, spawn};

    #[tokio::test]
    async fn tasks_are_counted_by_name_while_they_live() {
        let n = || {
            let counts = counts();
            let mine = counts.iter().find(|(name, _)| *name == "counted test");
            mine.map_or(0, |(_, n)| *n)
        };
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let task = spawn("counted test", async move {
            let _ = ended.await;
        });
        assert_eq!(n(), 1);
        drop(end);
        assert!(task.await.is_ok());
        assert_eq!(n(), 0);
    }

    #[tokio::test]
    async fn a_panic_ends_only_its_own_task() {
        let (tx, rx) = tokio::sync::oneshot::channel::<()>();
        let panicking = spawn("test", async move {
            let _held = tx;
            panic!("on purpose");
        });

        assert!(rx.await.is_err(), "what the task held is dropped");
        assert!(panicking.await.is_ok(), "the panic does not travel");
    }
}
