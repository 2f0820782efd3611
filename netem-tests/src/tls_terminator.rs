//! TLS taken off in front of a server, as frp's `wss` needs it: its server speaks WebSocket only.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A running terminator. Dropping it ends it and its connections.
#[derive(Debug)]
pub struct TlsTerminator {
    port: u16,
    certificate: String,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl TlsTerminator {
    /// Takes TLS off what arrives at a free port, and hands it on to `server_port` on loopback.
    pub fn start(server_port: u16) -> Result<Self> {
        let (certificate, config) = tls()?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        let port = listener.local_addr()?.port();
        let (running, stopped) = oneshot::channel::<()>();
        // Started by the caller's thread, it is where the caller is: on one side of a lab.
        thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept_all(&listener, &acceptor, server_port) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self {
            port,
            certificate,
            _running: running,
        })
    }

    /// Returns its certificate, which is its own authority, as PEM. It is for `localhost`.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn accept_all(listener: &TcpListener, acceptor: &TlsAcceptor, server_port: u16) {
    loop {
        let Ok((conn, _)) = listener.accept().await else {
            // No descriptors left: the test that waits for this connection says so.
            return;
        };
        let acceptor = acceptor.clone();
        // A connection that fails is seen by its client.
        tokio::spawn(async move { serve(conn, &acceptor, server_port).await });
    }
}

async fn serve(conn: TcpStream, acceptor: &TlsAcceptor, server_port: u16) -> Result<()> {
    conn.set_nodelay(true)?;
    let mut conn = acceptor.accept(conn).await?;
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server_port));
    let mut server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut conn, &mut server).await?;
    Ok(())
}

/// A certificate and its use. frp's client does not check it, unless it is told to.
fn tls() -> Result<(String, ServerConfig)> {
    let key = KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
    let certificate = params.self_signed(&key)?;
    let pem = certificate.pem();
    let certificate: CertificateDer<'static> = certificate.der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .ok()
        .context("a key that was just made cannot be read")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok((pem, config))
}
