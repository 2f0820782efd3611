//! What DNS says of the server.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::report::{Dns, millis};

/// Resolves `host` as a login does, by the system.
pub(super) async fn resolve(host: &str) -> Dns {
    let mut dns = Dns {
        name: host.to_owned(),
        ..Dns::default()
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        dns.addresses = vec![ip.to_string()];
        return dns;
    }
    dns.is_name = true;
    let began = Instant::now();
    let looking = tokio::net::lookup_host((host, 0));
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(found)) => {
            for address in found.map(|address| address.ip().to_string()) {
                if !dns.addresses.contains(&address) {
                    dns.addresses.push(address);
                }
            }
            if dns.addresses.is_empty() {
                dns.error = Some("the name has no address".to_owned());
            }
        }
        Ok(Err(error)) => dns.error = Some(error.to_string()),
        Err(_) => dns.error = Some(format!("no answer within {} s", PATIENCE.as_secs())),
    }
    dns.time_ms = millis(began.elapsed());
    dns
}

/// The system's resolver asks three servers for five seconds each at most.
const PATIENCE: Duration = Duration::from_secs(15);
