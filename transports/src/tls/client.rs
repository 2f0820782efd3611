//! The client's side of the handshake.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::{DnsName, ServerName};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::verify::ServerVerifier;
use super::{Fingerprint, TlsError, TlsStream, VERSIONS, files, provider};

/// A client's TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTlsConfig {
    /// Certificate (with its chain) and key, for servers that ask for one.
    pub cert_and_key: Option<(PathBuf, PathBuf)>,
    /// Who may vouch for the server. Without it chain and name are not checked.
    pub trusted_ca: Option<PathBuf>,
    /// The name to ask for and to check, instead of the host that is dialled.
    pub server_name: Option<String>,
    /// The server's key, known beforehand. Checked whether or not there is a CA.
    pub pin: Option<Fingerprint>,
}

impl ClientTlsConfig {
    /// Reads the files.
    pub fn build(&self) -> Result<ClientTls, TlsError> {
        let trusted = self.trusted_ca.as_deref().map(files::trusted).transpose()?;
        let checks_name = trusted.is_some();
        let verifier = ServerVerifier::new(trusted, self.pin)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &self.cert_and_key {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let own = files::certified_key(certificate, key)?;
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
            }
        };
        Ok(ClientTls {
            connector: TlsConnector::from(Arc::new(config)),
            server_name: self.server_name.clone().filter(|name| !name.is_empty()),
            checks_name,
        })
    }
}

/// Runs handshakes as a client.
#[derive(Clone)]
pub struct ClientTls {
    connector: TlsConnector,
    server_name: Option<String>,
    checks_name: bool,
}

impl ClientTls {
    /// For servers of the web, such as an outbound proxy: vouched for by the system's CAs.
    pub fn with_system_roots() -> Result<Self, TlsError> {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            server_name: None,
            checks_name: true,
        })
    }

    /// Runs the handshake over `io`. `host` is what was dialled: a host name or an IP literal.
    pub async fn connect<IO>(&self, host: &str, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.name_for(host)?;
        let stream = self.connector.connect(name, io).await?;
        let (io, connection) = stream.into_inner();
        Ok(TlsStream::new(io, connection.into()))
    }

    /// The same settings for QUIC, which runs its own handshake.
    pub(crate) fn for_quic(&self, alpn: &[u8]) -> ClientConfig {
        let mut config = ClientConfig::clone(self.connector.config());
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    /// Whom the handshake asks for when `host` is dialled.
    pub(crate) fn host_for<'a>(&'a self, host: &'a str) -> &'a str {
        self.server_name.as_deref().unwrap_or(host)
    }

    /// The name that is sent and checked. An IP address is checked and never sent, as RFC 6066
    /// section 3 asks for and as Go does.
    pub(crate) fn name_for(&self, host: &str) -> io::Result<ServerName<'static>> {
        let host = self.host_for(host);
        // A zone is this host's own business: "fe80::1%eth0".
        let address = host
            .split_once('%')
            .map_or(host, |(address, _zone)| address);
        if let Ok(ip) = address.parse::<IpAddr>() {
            return Ok(ServerName::IpAddress(ip.into()));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        match DnsName::try_from(name.to_owned()) {
            Ok(name) => Ok(ServerName::DnsName(name)),
            Err(_) if !self.checks_name => {
                // Nobody looks at the name, and an IP address is the one that is not sent.
                Ok(ServerName::IpAddress(
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED).into(),
                ))
            }
            Err(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{name:?} is no host name that a certificate could be checked against"),
            )),
        }
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .field("checks_name", &self.checks_name)
            .finish_non_exhaustive()
    }
}
