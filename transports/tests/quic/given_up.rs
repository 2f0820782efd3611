//! What is left at the server of attempts that their clients have given up.
//!
//! A client drops an attempt that another one was faster than. Whichever of its packets arrive, nothing of
//! it may stay for long: tasks tell, since each connection has one.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use transports::quic::QuicListenConfig;

use crate::support::{Path, Server, client, dial, server, until};

/// A server, a way to it, and how many tasks there are while nobody uses them.
struct Site {
    server: Server,
    path: Path,
    n_tasks: usize,
}

/// Shorter than the idle timeouts by far: what is over by then was not waited for.
const SOON: Duration = Duration::from_secs(3);

impl Site {
    async fn open() -> Self {
        let server = Server::start(QuicListenConfig {
            login_timeout: SOON,
            ..server()
        })
        .await;
        let path = Path::to(server.addr()).await;
        Self {
            server,
            path,
            n_tasks: n_tasks(),
        }
    }

    fn dial(&self) -> JoinHandle<()> {
        let addr = self.path.addr;
        tokio::spawn(async move {
            dial(addr, client()).await.ok();
        })
    }

    /// Waits until nothing is left of any attempt, beginning with one that nothing has happened to:
    /// with it everything before has been looked at too.
    async fn is_as_before(&self) {
        let pair = self.server.pair_over(self.path.addr, client()).await;
        pair.works().await;
        drop(pair);
        let is_as_before = || n_tasks() <= self.n_tasks;
        until("a server without connections", is_as_before).await;
    }
}

fn n_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn nothing_is_left_of_an_attempt_of_which_only_the_end_arrives() {
    let site = Site::open().await;
    for _ in 0..3 {
        let (n_silenced, n_arrived) = (site.path.n_silenced(), site.path.n_arrived());
        site.path.silence_client();
        let dialling = site.dial();
        until("a first packet", || site.path.n_silenced() > n_silenced).await;
        site.path.let_speak();
        dialling.abort();
        until("the end", || site.path.n_arrived() > n_arrived).await;
    }
    site.is_as_before().await;
}

#[tokio::test]
async fn nothing_is_left_of_an_attempt_that_ends_before_it_is_answered() {
    let site = Site::open().await;
    for _ in 0..3 {
        let n_arrived = site.path.n_arrived();
        site.path.silence_server();
        let dialling = site.dial();
        until("a hello", || site.path.n_arrived() > n_arrived).await;
        dialling.abort();
        until("the end", || site.path.n_arrived() > n_arrived + 1).await;
    }
    site.path.let_speak();
    site.is_as_before().await;
}

#[tokio::test]
async fn nothing_is_left_of_an_attempt_whose_end_does_not_arrive() {
    let site = Site::open().await;
    for _ in 0..3 {
        let (n_silenced, n_arrived) = (site.path.n_silenced(), site.path.n_arrived());
        site.path.silence_server();
        let dialling = site.dial();
        until("a hello", || site.path.n_arrived() > n_arrived).await;
        site.path.silence_client();
        dialling.abort();
        until("the end", || site.path.n_silenced() > n_silenced).await;
        site.path.let_speak();
    }
    site.is_as_before().await;
}

#[tokio::test]
async fn nothing_is_left_of_a_carrier_that_nobody_has_logged_in_over_and_whose_end_does_not_arrive()
{
    let site = Site::open().await;
    let client = dial(site.path.addr, client()).await.unwrap();
    let incoming = site.server.accept().await;
    let n_silenced = site.path.n_silenced();
    site.path.silence_client();
    drop(client);
    until("the end", || site.path.n_silenced() > n_silenced).await;
    // As the server does.
    tokio::time::sleep_until(incoming.login_deadline.into()).await;
    drop(incoming);
    site.path.let_speak();
    site.is_as_before().await;
}
