//! Certificates, servers and clients for the tests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use transports::tcp::{TcpDialConfig, TcpListenConfig, TcpTransport};
use transports::tls::{
    ClientTls, ClientTlsConfig, PemPair, ServerCertificate, ServerTls, ServerTlsConfig,
};
use transports::{Carrier, DialError, Endpoint, Incoming, Listener, Transport};

/// Long enough for anything that works. A test that waits for it has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// A server on a loopback port.
pub struct Server {
    pub listener: Box<dyn Listener>,
}

impl Server {
    pub async fn start(config: TcpListenConfig) -> Self {
        Self::start_on("127.0.0.1:0", config).await
    }

    pub async fn start_on(addr: &str, config: TcpListenConfig) -> Self {
        let transport = TcpTransport::listener(config);
        let listener = transport.bind(addr.parse().unwrap()).await.unwrap();
        Self { listener }
    }

    pub fn addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    pub fn endpoint(&self) -> Endpoint {
        endpoint("127.0.0.1", self.addr().port())
    }

    pub async fn accept(&self) -> Incoming {
        timeout(LONG, self.listener.accept())
            .await
            .unwrap()
            .unwrap()
    }

    /// Dials this server, has it accept, and sends bytes both ways.
    pub async fn serves(&self, client: TcpDialConfig) -> (Arc<dyn Carrier>, Incoming) {
        self.serves_at(&self.endpoint(), client).await
    }

    pub async fn serves_at(
        &self,
        endpoint: &Endpoint,
        client: TcpDialConfig,
    ) -> (Arc<dyn Carrier>, Incoming) {
        let client = dial(endpoint, client).await.unwrap();
        // Without TLS the server learns of a client with its first bytes only.
        let greeting = tokio::spawn({
            let client = client.clone();
            async move {
                let mut stream = client.open_stream().await.unwrap();
                stream.write_all(b"ping").await.unwrap();
                stream.flush().await.unwrap();
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer, b"pong");
            }
        });
        let incoming = self.accept().await;
        let accepted = timeout(LONG, incoming.carrier.accept_stream())
            .await
            .unwrap();
        let mut stream = accepted.unwrap().unwrap();
        let mut question = [0; 4];
        timeout(LONG, stream.read_exact(&mut question))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&question, b"ping");
        stream.write_all(b"pong").await.unwrap();
        stream.flush().await.unwrap();
        timeout(LONG, greeting).await.unwrap().unwrap();
        (client, incoming)
    }
}

pub fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint {
        host: host.into(),
        port,
    }
}

pub async fn dial(
    endpoint: &Endpoint,
    config: TcpDialConfig,
) -> Result<Arc<dyn Carrier>, DialError> {
    let transport = TcpTransport::dialer(config);
    timeout(LONG, transport.dial(endpoint)).await.unwrap()
}

/// A client without multiplexing or TLS.
pub fn plain_client() -> TcpDialConfig {
    TcpDialConfig {
        timeout: LONG,
        mux: None,
        ..TcpDialConfig::default()
    }
}

/// A client without multiplexing, with TLS as given.
pub fn tls_client(tls: &ClientTlsConfig) -> TcpDialConfig {
    TcpDialConfig {
        tls: Some(tls.build().unwrap()),
        ..plain_client()
    }
}

/// A client with TLS that trusts everybody.
pub fn trusting_client() -> TcpDialConfig {
    tls_client(&ClientTlsConfig::default())
}

/// A server without multiplexing, with a self-signed certificate.
pub fn server_config() -> TcpListenConfig {
    let pair = transports::tls::self_signed().unwrap();
    server_config_with(server_tls(pair))
}

pub fn server_config_with(tls: ServerTls) -> TcpListenConfig {
    TcpListenConfig {
        tls: Some(tls),
        marker: Some(0x17),
        mux: None,
        login_timeout: LONG,
        ..TcpListenConfig::default()
    }
}

pub fn server_tls(pair: PemPair) -> ServerTls {
    let config = ServerTlsConfig {
        certificate: ServerCertificate::Pair(pair),
        trusted_ca: None,
    };
    config.build().unwrap()
}

pub fn client_tls(config: &ClientTlsConfig) -> ClientTls {
    config.build().unwrap()
}

/// A certification authority with its files in a folder of its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub file: PathBuf,
    pub dir: TempDir,
}

impl Authority {
    pub fn new() -> Self {
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

    /// Issues a certificate for `names`, host names or IP addresses.
    pub fn issue(&self, names: &[&str]) -> PemPair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        self.issue_with(&CertificateParams::new(names).unwrap())
    }

    pub fn issue_with(&self, params: &CertificateParams) -> PemPair {
        let key = KeyPair::generate().unwrap();
        PemPair {
            cert_pem: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Writes `pair` into two files.
    pub fn write(&self, name: &str, pair: &PemPair) -> (PathBuf, PathBuf) {
        let certificate = self.dir.path().join(format!("{name}.crt"));
        let key = self.dir.path().join(format!("{name}.key"));
        std::fs::write(&certificate, &pair.cert_pem).unwrap();
        std::fs::write(&key, &pair.key_pem).unwrap();
        (certificate, key)
    }
}

/// Runs one test of this program again, alone, in a process that `prepare` sets up. Returns what it
/// wrote.
pub fn run_alone(test: &str, prepare: impl FnOnce(&mut std::process::Command)) -> String {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .arg("-c")
        .arg(r#"eval "$BEFORE"; exec "$@""#)
        .arg("sh")
        .arg(program);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env("BEFORE", ":").env("ALONE", test);
    prepare(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{test} did not run: {text}");
    text.into_owned()
}

/// Whether this is the process that [`run_alone`] has started.
pub fn is_alone(test: &str) -> bool {
    std::env::var("ALONE").is_ok_and(|alone| alone == test)
}
