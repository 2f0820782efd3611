//! `tcp`: a port of the server for a port of the client's.

use std::sync::Arc;
use std::time::Duration;

use frp_core::proto::msg::NewProxy;
use frp_core::relay::HalfClose;
use frp_core::task;
use frp_core::transports::socket;
use frp_core::transports::tcp::accept::Acceptor;
use frp_core::transports::tcp::keep_alive;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info};

use super::{Kind, ProxyError, Publication, Started, UserAddrs};
use crate::net;
use crate::ports::PortLease;
use crate::server::Server;
use crate::session::Session;

pub(super) fn start(
    server: &Arc<Server>,
    session: &Arc<Session>,
    message: &NewProxy,
    stop: &CancellationToken,
) -> Result<Started, ProxyError> {
    let ip = server.proxy_ip;
    let (lease, listener) =
        server
            .tcp_ports
            .acquire(&message.proxy_name, message.remote_port, |port| {
                net::listen_tcp(ip, port)
            })?;
    let port = lease.port();
    let publication = Publication::new(server, session, message, Kind::Tcp);
    let stats = Arc::clone(&publication.stats);
    let span = publication.span.clone();
    // frp shows the port that was asked for, and so do we.
    span.in_scope(|| info!("tcp proxy listen port [{}]", message.remote_port));
    let accepting = accept_users(publication, listener, lease, stop.clone());
    let task = task::spawn("tcp proxy", accepting.instrument(span));
    Ok(Started {
        port: Some(port),
        task: Some(task),
        stats,
    })
}

/// Accepts users until told to stop. Never waits for one of them, and no error ends it.
async fn accept_users(
    publication: Arc<Publication>,
    listener: TcpListener,
    lease: PortLease,
    stop: CancellationToken,
) {
    let mut acceptor = Acceptor::new(listener, "tcp proxy");
    loop {
        let (user_conn, addr) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = acceptor.accept() => accepted,
        };
        info!("get a user connection [{addr}]");
        keep_alive(&user_conn, Some(USER_KEEPALIVE));
        let addrs = UserAddrs {
            src: Some(addr),
            dst: user_conn.local_addr().ok(),
        };
        let publication = Arc::clone(&publication);
        task::spawn("user connection", async move {
            publication
                .serve_user(socket::boxed(user_conn), addrs, HalfClose::Keep)
                .await;
        });
    }
    // The port is given back when nothing holds it any more.
    drop(acceptor);
    drop(lease);
}

/// When a silent user is asked whether it is still there, as Go does by default.
const USER_KEEPALIVE: Duration = Duration::from_secs(15);
