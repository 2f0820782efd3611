//! Who trusts whom.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use transports::tls::{
    ClientTlsConfig, PemPair, ServerCertificate, ServerTls, ServerTlsConfig, fingerprint,
    self_signed,
};
use transports::{Carrier, DialError};

use crate::support::{
    Authority, Server, client_tls, dial, endpoint, plain_client, server_config, server_config_with,
    server_tls, tls_client, trusting_client,
};

#[tokio::test]
async fn a_client_without_a_ca_accepts_any_certificate() {
    let server = Server::start(server_config()).await;
    server.serves(trusting_client()).await;
    server
        .serves_at(
            &endpoint("localhost", server.addr().port()),
            trusting_client(),
        )
        .await;
}

#[tokio::test]
async fn a_client_without_a_ca_may_call_the_server_anything() {
    let server = Server::start(server_config()).await;
    for name in [
        "frp.example",
        "not a host name",
        "under_score.example",
        "10.0.0.1",
        "::1",
    ] {
        let tls = ClientTlsConfig {
            server_name: Some(name.into()),
            ..ClientTlsConfig::default()
        };
        server.serves(tls_client(&tls)).await;
    }
}

#[tokio::test]
async fn both_ends_and_nobody_else_export_the_same_keys() {
    let server = Server::start(server_config()).await;
    let (client, incoming) = server.serves(trusting_client()).await;
    let export = |carrier: &dyn Carrier, label: &[u8], context: &[u8]| {
        let mut key = [0; 32];
        carrier
            .export_keying_material(&mut key, label, context)
            .unwrap();
        key
    };
    let key = export(&*client, b"EXPERIMENTAL holdfast", b"a");
    assert_eq!(
        key,
        export(&*incoming.carrier, b"EXPERIMENTAL holdfast", b"a")
    );
    assert_ne!(key, export(&*client, b"EXPERIMENTAL holdfast", b"b"));
    let (other, _other_incoming) = server.serves(trusting_client()).await;
    assert_ne!(key, export(&*other, b"EXPERIMENTAL holdfast", b"a"));
}

#[tokio::test]
async fn without_tls_there_are_no_keys_to_export() {
    let server = Server::start(server_config()).await;
    let (client, incoming) = server.serves(plain_client()).await;
    client
        .export_keying_material(&mut [0; 32], b"x", b"")
        .unwrap_err();
    incoming
        .carrier
        .export_keying_material(&mut [0; 32], b"x", b"")
        .unwrap_err();
}

#[tokio::test]
async fn a_certificate_of_the_trusted_ca_is_accepted_for_its_names() {
    let authority = Authority::new();
    let pair = authority.issue(&["frps.example", "127.0.0.1"]);
    let server = Server::start(server_config_with(server_tls(pair))).await;

    // The host that is dialled is an address in the certificate.
    server
        .serves(tls_client(&trusting(&authority.file, None)))
        .await;
    server
        .serves(tls_client(&trusting(&authority.file, Some("frps.example"))))
        .await;
    server
        .serves(tls_client(&trusting(
            &authority.file,
            Some("frps.example."),
        )))
        .await;
    server
        .serves(tls_client(&trusting(&authority.file, Some(""))))
        .await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = server_tls(authority.issue(&["frps.example", "127.0.0.2"]));
    for name in [
        None,
        Some("other.example"),
        Some("no host name"),
        Some("127.0.0.1"),
    ] {
        let error = refusal(&server, &trusting(&authority.file, name)).await;
        assert!(
            error.contains("name") || error.contains("127.0.0.1"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused() {
    let server = server_tls(Authority::new().issue(&["127.0.0.1"]));
    let error = refusal(&server, &trusting(&Authority::new().file, None)).await;
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_a_client_that_checks() {
    let authority = Authority::new();
    let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let pair = authority.issue_with(&params);
    let error = refusal(&server_tls(pair.clone()), &trusting(&authority.file, None)).await;
    assert!(error.contains("expired"), "{error}");

    let server = Server::start(server_config_with(server_tls(pair))).await;
    server.serves(trusting_client()).await;
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_its_own_ca() {
    let authority = Authority::new();
    for is_ca in [false, true] {
        let mut params = CertificateParams::new(["frps.example".to_owned()]).unwrap();
        if is_ca {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let pair = self_signed_with(&params);
        let (file, _) = authority.write("own", &pair);
        let server = Server::start(server_config_with(server_tls(pair.clone()))).await;
        server
            .serves(tls_client(&trusting(&file, Some("frps.example"))))
            .await;
        let error = refusal(&server_tls(pair), &trusting(&file, Some("other.example"))).await;
        assert!(error.contains("name"), "{error}");
    }
}

#[tokio::test]
async fn an_expired_certificate_is_not_its_own_ca() {
    let authority = Authority::new();
    let mut params = CertificateParams::new(["frps.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    let pair = self_signed_with(&params);
    let (file, _) = authority.write("own", &pair);
    let error = refusal(&server_tls(pair), &trusting(&file, Some("frps.example"))).await;
    assert!(error.contains("expired"), "{error}");
}

#[tokio::test]
async fn a_pinned_key_is_the_only_one_accepted() {
    let pair = self_signed().unwrap();
    let pinning = |pair: &PemPair| ClientTlsConfig {
        pin: Some(fingerprint(pair.cert_pem.as_bytes()).unwrap()),
        ..ClientTlsConfig::default()
    };
    let tls = server_tls(pair.clone());
    assert_eq!(Some(tls.fingerprint()), pinning(&pair).pin);
    let server = Server::start(server_config_with(tls.clone())).await;
    server.serves(tls_client(&pinning(&pair))).await;

    let error = refusal(&tls, &pinning(&self_signed().unwrap())).await;
    assert!(error.contains("pinned"), "{error}");
}

#[tokio::test]
async fn a_server_without_its_certificates_key_is_refused() {
    let presented = self_signed().unwrap();
    let held = self_signed().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(presented.cert_pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(held.key_pem.as_bytes()).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let key = provider
            .key_provider
            .load_private_key(key.clone_key())
            .unwrap();
        let certified = rustls::sign::CertifiedKey::new(chain.clone(), key);
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
        let config = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        let impostor = tokio_rustls::TlsAcceptor::from(Arc::new(config));

        let (client_io, server_io) = duplex(64 * 1024);
        let serving = tokio::spawn(async move { impostor.accept(server_io).await.map(drop) });
        let tls = client_tls(&ClientTlsConfig::default());
        let error = tls.connect("127.0.0.1", client_io).await.unwrap_err();
        assert!(error.to_string().contains("BadSignature"), "{error}");
        serving.await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn a_client_with_a_certificate_of_the_trusted_ca_is_let_in() {
    let authority = Authority::new();
    let server = Server::start(server_config_with(mutual(&authority, &authority.file))).await;
    let own = authority.write("client", &authority.issue(&["client.example"]));
    server.serves(tls_client(&presenting(own))).await;
}

#[tokio::test]
async fn a_client_whose_self_signed_certificate_is_trusted_is_let_in() {
    let authority = Authority::new();
    let own = authority.write("client", &self_signed().unwrap());
    let server = Server::start(server_config_with(mutual(&authority, &own.0))).await;
    server.serves(tls_client(&presenting(own))).await;
}

#[tokio::test]
async fn clients_without_a_trusted_certificate_are_kept_out() {
    let authority = Authority::new();
    let tls = mutual(&authority, &authority.file);
    let stranger = Authority::new();
    let foreign = stranger.write("client", &stranger.issue(&["client.example"]));
    let self_made = stranger.write("self", &self_signed().unwrap());
    for config in [
        ClientTlsConfig::default(),
        presenting(foreign),
        presenting(self_made),
    ] {
        let (client, server) = handshake(&tls, &config).await;
        server.unwrap_err();
        // With TLS 1.3 the client is done before the server has looked at its certificate.
        if let Ok(mut client) = client {
            client.read(&mut [0]).await.unwrap_err();
        }
    }
}

#[tokio::test]
async fn a_tls_1_2_client_without_sni_is_served() {
    let tls = server_tls(self_signed().unwrap());
    let (client_io, server_io) = duplex(64 * 1024);
    let serving = tokio::spawn(async move { tls.accept(server_io).await });
    let mut config =
        rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_no_client_auth();
    config.enable_sni = false;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("frps.example").unwrap();
    let mut client = connector.connect(name, client_io).await.unwrap();
    let mut server = serving.await.unwrap().unwrap();
    client.write_all(b"old").await.unwrap();
    client.flush().await.unwrap();
    let mut received = [0; 3];
    server.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"old");
}

#[tokio::test]
async fn keys_in_all_three_pem_forms_are_read() {
    let authority = Authority::new();
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    for (key, label) in [
        (KeyPair::generate().unwrap(), "EC PRIVATE KEY"),
        (rsa.unwrap(), "RSA PRIVATE KEY"),
    ] {
        let params = CertificateParams::new(["frps.example".to_owned()]).unwrap();
        let cert_pem = params.self_signed(&key).unwrap().pem();
        let inner = private_key_inside_pkcs8(&key.serialize_der());
        for key_pem in [key.serialize_pem(), pem(label, &inner)] {
            let pair = PemPair {
                cert_pem: cert_pem.clone(),
                key_pem,
            };
            let (certificate, key) = authority.write("server", &pair);
            let config = ServerTlsConfig {
                certificate: ServerCertificate::Files { certificate, key },
                trusted_ca: None,
            };
            let server = Server::start(server_config_with(config.build().unwrap())).await;
            server.serves(trusting_client()).await;
        }
    }
}

#[tokio::test]
async fn a_certificate_of_x509_version_1_is_served_and_accepted() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["frps.example".to_owned()]).unwrap();
    let signed = params.self_signed(&key).unwrap();
    let pair = PemPair {
        cert_pem: pem("CERTIFICATE", &as_version_1(signed.der())),
        key_pem: key.serialize_pem(),
    };
    let (certificate, key) = authority.write("old", &pair);
    let config = ServerTlsConfig {
        certificate: ServerCertificate::Files { certificate, key },
        trusted_ca: None,
    };
    let server = Server::start(server_config_with(config.build().unwrap())).await;
    server.serves(trusting_client()).await;
}

#[test]
fn errors_name_the_file_and_say_what_is_wrong() {
    let authority = Authority::new();
    let dir = authority.dir.path();
    let (certificate, key) = authority.write("good", &authority.issue(&["a.example"]));
    let (_, other_key) = authority.write("other", &authority.issue(&["a.example"]));
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let empty = write("empty.pem", "");
    let binary = write("binary.pem", "\0\u{1}0\u{82}");
    let encrypted = write(
        "encrypted.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let old_encrypted = write(
        "old.key",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n\
         -----END RSA PRIVATE KEY-----\n",
    );
    let cut_off = write("cut.key", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n");
    let no_base64 = write(
        "base64.key",
        "-----BEGIN PRIVATE KEY-----\n!secret!\n-----END PRIVATE KEY-----\n",
    );
    let missing = dir.join("missing.pem");

    for (certificate, key, file, problem) in [
        (&missing, &key, "missing.pem", "No such file"),
        (&certificate, &missing, "missing.pem", "No such file"),
        (&empty, &key, "empty.pem", "holds no certificate"),
        (&binary, &key, "binary.pem", "holds no certificate"),
        (&key, &key, "good.key", "holds no certificate"),
        (
            &certificate,
            &certificate,
            "good.crt",
            "holds no private key",
        ),
        (&certificate, &encrypted, "encrypted.key", "openssl pkey"),
        (&certificate, &old_encrypted, "old.key", "openssl pkey"),
        (&certificate, &cut_off, "cut.key", "-----END"),
        (&certificate, &no_base64, "base64.key", "base64"),
        (
            &certificate,
            &other_key,
            "other.key",
            "not that of the first certificate",
        ),
    ] {
        let client = presenting((certificate.clone(), key.clone()));
        let error = client.build().unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(problem), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let server = ServerTlsConfig {
            certificate: ServerCertificate::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            trusted_ca: None,
        };
        assert_eq!(server.build().unwrap_err().to_string(), error);
    }
    for (ca, problem) in [(&missing, "No such file"), (&empty, "holds no certificate")] {
        let error = trusting(ca, None).build().unwrap_err().to_string();
        assert!(
            error.contains(problem) && error.contains("trusted CA"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn much_data_arrives_intact_through_small_and_large_reads() {
    let tls = server_tls(self_signed().unwrap());
    let (client, server) = handshake(&tls, &ClientTlsConfig::default()).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    let data: Vec<u8> = (0..3_000_000u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    let expected = data.clone();
    let sending = tokio::spawn(async move {
        for chunk in data.chunks(100_000) {
            client.write_all(chunk).await.unwrap();
        }
        client.shutdown().await.unwrap();
        client
    });
    let mut received = Vec::new();
    let mut n = 1;
    loop {
        let mut buf = vec![0; n];
        match server.read(&mut buf).await.unwrap() {
            0 => break,
            len => received.extend_from_slice(&buf[..len]),
        }
        n = n % 70_000 * 3 + 1;
    }
    assert!(received == expected);
    // The other direction is still open.
    let mut client = sending.await.unwrap();
    server.write_all(b"bye").await.unwrap();
    server.flush().await.unwrap();
    let mut last = [0; 3];
    client.read_exact(&mut last).await.unwrap();
    assert_eq!(&last, b"bye");
}

#[tokio::test]
async fn an_end_without_a_close_notify_is_an_error_after_the_data() {
    let tls = server_tls(self_signed().unwrap());
    let (client, server) = handshake(&tls, &ClientTlsConfig::default()).await;
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    client.write_all(b"cut").await.unwrap();
    client.flush().await.unwrap();
    drop(client);
    let mut received = Vec::new();
    let error = server.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(received, b"cut");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_an_error_that_names_it() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(b"220 mail.example ESMTP\r\n")
            .await
            .unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
    });
    let error = dial(&endpoint("127.0.0.1", port), trusting_client())
        .await
        .unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

fn trusting(ca: &Path, server_name: Option<&str>) -> ClientTlsConfig {
    ClientTlsConfig {
        trusted_ca: Some(ca.into()),
        server_name: server_name.map(String::from),
        ..ClientTlsConfig::default()
    }
}

fn presenting(own: (std::path::PathBuf, std::path::PathBuf)) -> ClientTlsConfig {
    ClientTlsConfig {
        cert_and_key: Some(own),
        ..ClientTlsConfig::default()
    }
}

/// A server that asks for certificates of those in `ca`.
fn mutual(authority: &Authority, ca: &Path) -> ServerTls {
    let config = ServerTlsConfig {
        certificate: ServerCertificate::Pair(authority.issue(&["127.0.0.1"])),
        trusted_ca: Some(ca.into()),
    };
    config.build().unwrap()
}

fn self_signed_with(params: &CertificateParams) -> PemPair {
    let key = KeyPair::generate().unwrap();
    PemPair {
        cert_pem: params.self_signed(&key).unwrap().pem(),
        key_pem: key.serialize_pem(),
    }
}

type Stream = transports::tls::TlsStream<DuplexStream>;

async fn handshake(
    server: &ServerTls,
    client: &ClientTlsConfig,
) -> (std::io::Result<Stream>, std::io::Result<Stream>) {
    let (client_io, server_io) = duplex(64 * 1024);
    let server = server.clone();
    let serving = tokio::spawn(async move { server.accept(server_io).await });
    let client = client_tls(client).connect("127.0.0.1", client_io).await;
    // A client that refuses hangs up, and so lets the server know.
    let (client, refused) = match client {
        Ok(client) => (Some(client), None),
        Err(e) => (None, Some(e)),
    };
    let server = serving.await.unwrap();
    (client.ok_or_else(|| refused.unwrap()), server)
}

/// What a client that dials 127.0.0.1 says about a server that it must not accept.
async fn refusal(server: &ServerTls, client: &ClientTlsConfig) -> String {
    let (client, server) = handshake(server, client).await;
    server.unwrap_err();
    client.unwrap_err().to_string()
}

/// The one OCTET STRING in a PKCS #8 key is the key as PKCS #1 or SEC 1 have it.
fn private_key_inside_pkcs8(der: &[u8]) -> Vec<u8> {
    let (_, body, _) = element(der);
    let (_, _version, rest) = element(body);
    let (_, _algorithm, rest) = element(rest);
    let (tag, key, _) = element(rest);
    assert_eq!(tag, 4);
    key.to_vec()
}

/// Takes version and extensions out. The signature no longer fits, which nobody checks who was not
/// given a CA.
fn as_version_1(der: &[u8]) -> Vec<u8> {
    let (_, certificate, _) = element(der);
    let (_, mut fields, after) = element(certificate);
    let mut kept = Vec::new();
    while !fields.is_empty() {
        let (tag, _, rest) = element(fields);
        let is_version_or_extensions = matches!(tag, 0xa0 | 0xa3);
        if !is_version_or_extensions {
            kept.extend_from_slice(&fields[..fields.len() - rest.len()]);
        }
        fields = rest;
    }
    sequence(&[&sequence(&[&kept]), after])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[0x30, 0x82], len.as_slice(), &content].concat()
}

/// Splits one DER element off: tag, content, rest.
fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (header, len) = match der[1] {
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
        len => (2, usize::from(len)),
    };
    (der[0], &der[header..header + len], &der[header + len..])
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A client of old that checks nothing.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![
            rustls::SignatureScheme::ECDSA_NISTP256_SHA256,
            rustls::SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}
