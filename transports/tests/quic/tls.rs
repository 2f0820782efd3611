//! Who trusts whom.

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::time::timeout;
use transports::quic::QuicDialConfig;
use transports::tls::{ClientTlsConfig, PemPair, ServerCertificate, ServerTlsConfig, self_signed};
use transports::{CarrierError, DialError};

use crate::backend;
use crate::support::{
    LONG, Server, client, client_with, closed, dial, dial_host, server, server_tls, server_with,
};

#[tokio::test]
async fn a_client_that_asks_for_another_protocol_is_refused() {
    let server = Server::start(server()).await;
    let mut other = QuicDialConfig {
        alpn: b"h3".to_vec(),
        ..client()
    };
    if !backend::SAYS_WHY {
        other.timeout = Duration::from_secs(1);
    }
    let error = dial(server.addr(), other).await.unwrap_err();
    let is_said = matches!(error, DialError::Tls { .. });
    assert_eq!(is_said, backend::SAYS_WHY, "{error}");
    server.pair(client()).await.works().await;
}

#[tokio::test]
async fn a_client_without_a_ca_may_call_the_server_anything() {
    let server = Server::start(server()).await;
    for name in ["frp.example", "not a host name", "10.0.0.1", "::1"] {
        let tls = ClientTlsConfig {
            server_name: Some(name.into()),
            ..ClientTlsConfig::default()
        };
        server.pair(client_with(&tls)).await.works().await;
    }
}

#[tokio::test]
async fn a_client_with_a_ca_checks_chain_and_name() {
    let authority = Authority::new();
    let pair = authority.issue(&["frp.example"]);
    let server = Server::start(server_with(server_tls(pair))).await;
    let trusting = |name: &str, ca: &Authority| {
        client_with(&ClientTlsConfig {
            trusted_ca: Some(ca.file.clone()),
            server_name: Some(name.into()),
            ..ClientTlsConfig::default()
        })
    };
    let pair = server.pair(trusting("frp.example", &authority)).await;
    pair.works().await;

    for wrong in [
        trusting("other.example", &authority),
        trusting("frp.example", &Authority::new()),
    ] {
        let error = dial(server.addr(), wrong).await.unwrap_err();
        assert!(matches!(error, DialError::Tls { .. }), "{error}");
        let is_said = error.to_string().contains("certificate");
        assert!(is_said || !backend::SAYS_WHY, "{error}");
    }
}

#[tokio::test]
async fn a_pinned_key_is_checked() {
    let pair = self_signed().unwrap();
    let tls = server_tls(pair);
    let pin = tls.fingerprint();
    let server = Server::start(server_with(tls)).await;
    let pinning = |pin| {
        client_with(&ClientTlsConfig {
            pin: Some(pin),
            ..ClientTlsConfig::default()
        })
    };
    server.pair(pinning(pin)).await.works().await;
    let other = server_tls(self_signed().unwrap()).fingerprint();
    let error = dial(server.addr(), pinning(other)).await.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
    assert_eq!(error.to_string().contains("pinned"), backend::SAYS_WHY);
}

#[tokio::test]
async fn a_server_with_a_ca_takes_only_clients_it_vouches_for() {
    let authority = Authority::new();
    let tls = ServerTlsConfig {
        certificate: ServerCertificate::Pair(self_signed().unwrap()),
        trusted_ca: Some(authority.file.clone()),
    };
    let server = Server::start(server_with(tls.build().unwrap())).await;
    let presenting = |authority: &Authority| {
        let files = authority.write("client", &authority.issue(&["client"]));
        client_with(&ClientTlsConfig {
            cert_and_key: Some(files),
            ..ClientTlsConfig::default()
        })
    };
    server.pair(presenting(&authority)).await.works().await;

    for refused in [client(), presenting(&Authority::new())] {
        // The client is done before the server has seen its certificate.
        let carrier = dial(server.addr(), refused).await.unwrap();
        let reason = closed(&carrier).await;
        assert!(matches!(reason, CarrierError::Lost(_)), "{reason:?}");
    }
    let none = timeout(Duration::ZERO, server.listener.accept()).await;
    assert!(none.is_err(), "none of them was let in");
}

#[tokio::test]
async fn a_host_name_is_resolved_and_all_its_addresses_are_tried() {
    let server = Server::start(server()).await;
    // Where it has an IPv6 address as well, nobody listens there.
    let dialling = dial_host("localhost", server.addr().port(), client());
    let carrier = timeout(LONG, dialling).await.unwrap().unwrap();
    assert!(carrier.peer_addr().is_ipv4());
}

#[tokio::test]
async fn a_name_without_an_address_is_an_error_of_its_own() {
    let error = dial_host("does-not-exist.invalid", 1, client()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, DialError::Resolve { .. }), "{error}");
}

/// A certification authority with its files in a folder of its own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            file,
            dir,
        }
    }

    fn issue(&self, names: &[&str]) -> PemPair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        PemPair {
            cert_pem: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key_pem: key.serialize_pem(),
        }
    }

    fn write(&self, name: &str, pair: &PemPair) -> (PathBuf, PathBuf) {
        let certificate = self.dir.path().join(format!("{name}.crt"));
        let key = self.dir.path().join(format!("{name}.key"));
        std::fs::write(&certificate, &pair.cert_pem).unwrap();
        std::fs::write(&key, &pair.key_pem).unwrap();
        (certificate, key)
    }
}
