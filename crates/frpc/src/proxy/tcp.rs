//! Serves one user of a proxy that carries a byte stream: `tcp` and `stcp`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use frp_core::proto::msg::StartWorkConn;
use frp_core::relay::{HalfClose, Traffic, relay};
use frp_core::transports::BoxStream;
use frp_core::work;
use tokio::io::AsyncWriteExt;

use super::Proxy;
use crate::local::{self, LocalError};
use crate::proxy_header::{self, Carried, HeaderVersion};

/// Connects the user behind `work_stream` to the local service, until either is done.
pub async fn serve(
    proxy: &Proxy,
    work_stream: BoxStream,
    start: &StartWorkConn,
    half_close: HalfClose,
) -> Result<Traffic, LocalError> {
    let config = &proxy.config;
    let users = &proxy.users;
    let count = |error| {
        users.fail();
        local::count_failure(&error);
        error
    };
    let began = Instant::now();
    let dialled = local::dial(&config.local_ip, config.local_port).await;
    let mut local = dialled.map_err(count)?;
    metrics::histogram!("holdfast_local_dial_seconds").record(began.elapsed().as_secs_f64());
    if let Some(header) = header_for(proxy.header_version(), start) {
        let write = async {
            local.write_all(&header?).await?;
            Ok(())
        };
        write.await.map_err(LocalError::Header).map_err(count)?;
    }
    let _open = users.open();
    let work_stream = work::wrap(work_stream, &proxy.options);
    Ok(relay(local, work_stream, half_close, &users.carried).await)
}

/// The header for this user. `None` when none is wanted, or nothing is known of the user.
fn header_for(
    version: Option<HeaderVersion>,
    start: &StartWorkConn,
) -> Option<std::io::Result<Vec<u8>>> {
    let version = version?;
    if start.src_addr.is_empty() || start.src_port == 0 {
        return None;
    }
    let dst_addr = match start.dst_addr.as_str() {
        "" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        text => text.parse::<IpAddr>(),
    };
    let header = start
        .src_addr
        .parse::<IpAddr>()
        .and_then(|src_addr| Ok((src_addr, dst_addr?)))
        .map_err(std::io::Error::other)
        .and_then(|(src_addr, dst_addr)| {
            let src = SocketAddr::new(src_addr, start.src_port);
            let dst = SocketAddr::new(dst_addr, start.dst_port);
            proxy_header::build(version, Carried::Stream, src, dst).map_err(std::io::Error::other)
        });
    Some(header)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn start(src_addr: &str, src_port: u16, dst_addr: &str) -> StartWorkConn {
        StartWorkConn {
            src_addr: src_addr.to_owned(),
            src_port,
            dst_addr: dst_addr.to_owned(),
            dst_port: 80,
            ..StartWorkConn::default()
        }
    }

    #[test]
    fn the_header_names_the_user_and_where_it_connected_to() {
        let header = header_for(Some(HeaderVersion::V1), &start("1.2.3.4", 5, "5.6.7.8"));
        assert_eq!(
            header.unwrap().unwrap(),
            b"PROXY TCP4 1.2.3.4 5.6.7.8 5 80\r\n"
        );
    }

    #[test]
    fn a_missing_destination_is_the_loopback() {
        let header = header_for(Some(HeaderVersion::V1), &start("1.2.3.4", 5, ""));
        assert_eq!(
            header.unwrap().unwrap(),
            b"PROXY TCP4 1.2.3.4 127.0.0.1 5 80\r\n"
        );
    }

    #[test]
    fn without_the_users_address_there_is_no_header() {
        assert!(header_for(Some(HeaderVersion::V2), &start("", 5, "")).is_none());
        assert!(header_for(Some(HeaderVersion::V2), &start("1.2.3.4", 0, "")).is_none());
        assert!(header_for(None, &start("1.2.3.4", 5, "")).is_none());
    }

    #[test]
    fn an_address_that_is_none_is_an_error() {
        assert!(
            header_for(Some(HeaderVersion::V2), &start("x", 5, ""))
                .unwrap()
                .is_err()
        );
        assert!(
            header_for(Some(HeaderVersion::V2), &start("1.2.3.4", 5, "::1"))
                .unwrap()
                .is_err()
        );
    }
}
