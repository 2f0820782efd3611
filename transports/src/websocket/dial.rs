//! Connects to a server and makes a carrier of the connection.

use std::sync::Arc;

use super::WebsocketDialConfig;
use super::connect::connect;
use crate::mux::Role;
use crate::tcp::{self, Reached, start_carrier};
use crate::{Carrier, DialError, Endpoint, TransportKind};

/// Opens a carrier to `server`.
pub(super) async fn dial(
    config: &WebsocketDialConfig,
    kind: TransportKind,
    server: &Endpoint,
) -> Result<Arc<dyn Carrier>, DialError> {
    tcp::within(config.tcp.timeout, server, open(config, kind, server)).await
}

async fn open(
    config: &WebsocketDialConfig,
    kind: TransportKind,
    server: &Endpoint,
) -> Result<Arc<dyn Carrier>, DialError> {
    let mut reached = Reached::connect(&config.tcp, kind, server).await?;
    let host = match &config.outer_tls {
        None => in_header(server),
        Some(tls) => {
            reached = reached.start_tls(tls, None, server).await?;
            // frp leaves the port out here, and names whom TLS has been asked for.
            host_in_header(tls.host_for(&server.host))
        }
    };
    let upgraded = connect(reached.io, &host, config.path).await;
    reached.io = Box::new(upgraded.map_err(|error| DialError::Upgrade {
        addr: server.to_string(),
        reason: error.to_string(),
    })?);
    if let Some(tls) = &config.tcp.tls {
        reached = reached.start_tls(tls, config.tcp.marker, server).await?;
    }
    let mux = config.tcp.mux.as_ref();
    Ok(start_carrier(reached.io, mux, Role::Client, reached.info))
}

fn in_header(server: &Endpoint) -> String {
    format!("{}:{}", host_in_header(&server.host), server.port)
}

/// An IPv6 address in brackets, and without its zone: that is this host's own business (RFC 6874
/// section 1).
fn host_in_header(host: &str) -> String {
    match host.split_once('%') {
        Some((address, _zone)) if address.contains(':') => format!("[{address}]"),
        _ if host.contains(':') => format!("[{host}]"),
        _ => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_a_port_and_an_ipv6_address_its_brackets_but_no_zone() {
        for (host, expected) in [
            ("frps.example", "frps.example:7000"),
            ("192.0.2.1", "192.0.2.1:7000"),
            ("2001:db8::1", "[2001:db8::1]:7000"),
            ("fe80::1%eth0", "[fe80::1]:7000"),
        ] {
            let server = Endpoint {
                host: host.into(),
                port: 7000,
            };
            assert_eq!(in_header(&server), expected);
        }
    }
}
