//! System errors in the words that operators and scripts know from frp.

use std::io;

use frp_core::transports::DialError;

/// What went wrong with a connection, as Go puts it.
pub fn connect(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    }
}

/// What went wrong with a listener, as Go puts it.
pub fn bind(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        io::ErrorKind::PermissionDenied => "bind: permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Why the server could not be reached, as Go puts it.
pub fn dial(error: &DialError) -> String {
    match error {
        DialError::Connect { addr, source } => format!("dial tcp {addr}: {}", connect(source)),
        DialError::ConnectUdp { addr, source } => format!("dial udp {addr}: {}", connect(source)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_reads_as_in_frp() {
        let source = io::Error::from_raw_os_error(111);
        let error = DialError::Connect {
            addr: "127.0.0.1:7000".to_owned(),
            source,
        };
        assert_eq!(
            dial(&error),
            "dial tcp 127.0.0.1:7000: connect: connection refused"
        );
    }

    #[test]
    fn a_taken_port_reads_as_in_frp() {
        let error = io::Error::from_raw_os_error(98);
        assert_eq!(bind(&error), "bind: address already in use");
    }
}
