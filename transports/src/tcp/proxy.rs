//! Outbound proxies: HTTP CONNECT, plain or over TLS, and SOCKS5.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use url::Url;

use super::dial;
use super::io::TcpIo;
use crate::info::Io;
use crate::tls::ClientTls;
use crate::{DialError, Endpoint};

/// An outbound proxy: `http`, `https` or `socks5`, with or without credentials.
///
/// Credentials show in no text of it, and in no error of its parsing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ProxyUrl {
    scheme: Scheme,
    endpoint: Endpoint,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scheme {
    Http,
    Https,
    Socks5,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Credentials {
    user: String,
    password: String,
}

impl ProxyUrl {
    /// Connects to the proxy itself.
    pub(super) async fn connect(&self, local_ip: Option<IpAddr>) -> Result<TcpStream, DialError> {
        let Endpoint { host, port } = &self.endpoint;
        let connected = dial::connect(host, *port, local_ip).await;
        connected.map_err(|e| self.failed(e.to_string()))
    }

    fn failed(&self, reason: impl Into<String>) -> DialError {
        DialError::Proxy {
            proxy: self.to_string(),
            reason: reason.into(),
        }
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text.trim()).map_err(|_| ProxyUrlError::Malformed)?;
        let (scheme, default_port) = match url.scheme() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "socks5" => (Scheme::Socks5, 1080),
            "ntlm" => return Err(ProxyUrlError::NotSupportedYet("ntlm")),
            _ => return Err(ProxyUrlError::Scheme),
        };
        let host = match url.host() {
            Some(url::Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(url::Host::Ipv4(ip)) => ip.to_string(),
            Some(url::Host::Ipv6(ip)) => ip.to_string(),
            _ => return Err(ProxyUrlError::Host),
        };
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(String::from).map_err(|_| ProxyUrlError::Malformed)
        };
        let password = url.password().unwrap_or_default();
        let credentials = match (url.username(), password) {
            ("", "") => None,
            (user, password) => Some(Credentials {
                user: decoded(user)?,
                password: decoded(password)?,
            }),
        };
        Ok(Self {
            scheme,
            endpoint: Endpoint {
                host,
                port: url.port().unwrap_or(default_port),
            },
            credentials,
        })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.endpoint)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no proxy. Says nothing of the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// No URL at all.
    #[error("not a URL: expected something like http://user:password@host:3128")]
    Malformed,
    /// A URL of something else.
    #[error("a proxy URL begins with http://, https:// or socks5://")]
    Scheme,
    /// A URL of nothing.
    #[error("the proxy URL names no host")]
    Host,
    /// A kind of proxy that frp knows and this program does not know yet.
    #[error("not supported yet: {0} proxy")]
    NotSupportedYet(&'static str),
}

/// Has the proxy at the other end of `io` connect to `server`.
pub(super) async fn tunnel(
    proxy: &ProxyUrl,
    io: TcpIo,
    server: &Endpoint,
) -> Result<Box<dyn Io>, DialError> {
    match proxy.scheme {
        Scheme::Http => {
            let mut io = io;
            http_connect(proxy, &mut io, server).await?;
            Ok(Box::new(io))
        }
        Scheme::Https => {
            let failed = |e: &dyn fmt::Display| proxy.failed(format!("TLS handshake: {e}"));
            let tls = ClientTls::with_system_roots().map_err(|e| failed(&e))?;
            let handshake = tls.connect(&proxy.endpoint.host, io);
            let mut io = handshake.await.map_err(|e| failed(&e))?;
            http_connect(proxy, &mut io, server).await?;
            Ok(Box::new(io))
        }
        Scheme::Socks5 => socks5_connect(proxy, io, server).await,
    }
}

/// RFC 9110 section 9.3.6, with the headers that frp sends, in its order.
async fn http_connect<IO: Io>(
    proxy: &ProxyUrl,
    io: &mut IO,
    server: &Endpoint,
) -> Result<(), DialError> {
    if server.host.contains(|c: char| c.is_control() || c == ' ') {
        return Err(proxy.failed("the server's name has characters that no host name has"));
    }
    let mut request =
        format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\nUser-Agent: Mozilla/5.0\r\n");
    if let Some(Credentials { user, password }) = &proxy.credentials {
        let token = STANDARD.encode(format!("{user}:{password}"));
        request.push_str(&format!("Proxy-Authorization: Basic {token}\r\n"));
    }
    request.push_str("\r\n");
    let broken = |e: io::Error| proxy.failed(format!("CONNECT: {e}"));
    io.write_all(request.as_bytes()).await.map_err(broken)?;
    io.flush().await.map_err(broken)?;

    let head = read_head(io).await.map_err(broken)?;
    let status_line = head
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    let status_line = String::from_utf8_lossy(status_line);
    match status_code(&status_line) {
        Some(200) => Ok(()),
        Some(407) if proxy.credentials.is_none() => {
            Err(proxy
                .failed("it asks for a user and a password (407): write them into the proxy URL"))
        }
        Some(407) => Err(proxy.failed("it refuses this user and password (407)")),
        Some(_) => Err(proxy.failed(format!("it answers {:?}", shortened(&status_line)))),
        None => Err(proxy.failed("it does not answer in HTTP")),
    }
}

/// Reads up to the empty line and no further: the next byte is the server's. One byte at a time,
/// a few hundred of them once in a dial.
async fn read_head<IO: Io>(io: &mut IO) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() == MAX_HEAD_LEN {
            let problem = "the answer's head is longer than 16 KiB";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        head.push(io.read_u8().await?);
    }
    Ok(head)
}

fn status_code(status_line: &str) -> Option<u16> {
    let (version, rest) = status_line.split_once(' ')?;
    let code = rest.split(' ').next()?;
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    (version.starts_with("HTTP/1.") && is_code).then(|| code.parse().ok())?
}

/// What a proxy says goes into our log, so not at any length.
fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

/// RFC 1928 and RFC 1929. Names are left to the proxy to resolve.
async fn socks5_connect(
    proxy: &ProxyUrl,
    io: TcpIo,
    server: &Endpoint,
) -> Result<Box<dyn Io>, DialError> {
    let target = (server.host.as_str(), server.port);
    let connected = match &proxy.credentials {
        None => Socks5Stream::connect_with_socket(io, target).await,
        Some(Credentials { user, password }) => {
            Socks5Stream::connect_with_password_and_socket(io, target, user, password).await
        }
    };
    match connected {
        Ok(stream) => Ok(Box::new(stream.into_inner())),
        Err(e) => Err(proxy.failed(shortened(&e.to_string()))),
    }
}

/// As much as Go's clients read by far; proxies send a few hundred bytes.
const MAX_HEAD_LEN: usize = 16 * 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_url_has_scheme_host_port_and_credentials() {
        let proxy: ProxyUrl = "http://al%40ice:p%3Ass@proxy.example:3128".parse().unwrap();
        assert_eq!(proxy.to_string(), "http://proxy.example:3128");
        let credentials = proxy.credentials.unwrap();
        assert_eq!(credentials.user, "al@ice");
        assert_eq!(credentials.password, "p:ss");
    }

    #[test]
    fn each_scheme_has_its_port() {
        for (text, shown) in [
            ("http://h", "http://h:80"),
            ("https://h/", "https://h:443"),
            ("socks5://h", "socks5://h:1080"),
            ("socks5://127.0.0.1:9", "socks5://127.0.0.1:9"),
            ("socks5://[::1]:9", "socks5://[::1]:9"),
            (" http://[::1]:9 ", "http://[::1]:9"),
        ] {
            assert_eq!(text.parse::<ProxyUrl>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn credentials_are_printed_nowhere() {
        let proxy: ProxyUrl = "socks5://alice:secret@h:1".parse().unwrap();
        for text in [format!("{proxy:?}"), proxy.failed("x").to_string()] {
            assert!(
                !text.contains("alice") && !text.contains("secret"),
                "{text}"
            );
        }
        for text in [
            "alice:secret@h:1",
            "alice://secret@h",
            "http://alice:secret@",
            "secret",
            "http://alice:secret@h:99999",
            "http://alice:secret@[::",
            "http://alice:%ff@h",
        ] {
            let error = text.parse::<ProxyUrl>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("alice") && !shown.contains("secret"),
                "{shown}"
            );
        }
    }

    #[test]
    fn ntlm_is_said_to_come_later() {
        let error = "ntlm://u:p@h:1".parse::<ProxyUrl>().unwrap_err();
        assert_eq!(error.to_string(), "not supported yet: ntlm proxy");
    }

    #[test]
    fn a_status_line_is_read_strictly() {
        assert_eq!(
            status_code("HTTP/1.1 200 Connection established"),
            Some(200)
        );
        assert_eq!(status_code("HTTP/1.0 407"), Some(407));
        for line in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 2000 x",
            "SSH-2.0-x 200 x",
            "HTTP/1.1 +20 x",
        ] {
            assert_eq!(status_code(line), None, "{line}");
        }
    }
}
