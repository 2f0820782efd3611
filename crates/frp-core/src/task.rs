//! Tasks whose panic ends only themselves.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;
use tracing::Instrument;

/// Spawns `future` within the current span. A panic in it is counted, logged once with `name`, and
/// reaches nobody else; whoever waits for the task's effects sees its channels and streams close.
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let guarded = async move {
        if let Err(panic) = (CatchUnwind {
            inner: Box::pin(future),
        })
        .await
        {
            metrics::counter!("holdfast_task_panics_total", "task" => name).increment(1);
            tracing::error!(
                "a {name} task panicked and was ended: {}",
                panic_text(&*panic)
            );
        }
    };
    tokio::spawn(guarded.in_current_span())
}

/// Catches a panic of each poll. Unwind safety: the future is dropped right after a panic and its
/// state is never looked at again.
struct CatchUnwind<F> {
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.inner.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
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
    use super::spawn;

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
