//! Asking an admin API: over TCP where a web server is configured, else over the local socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{address, local};
use crate::config::WebServerConfig;

/// Where an admin API is.
#[derive(Clone, Debug)]
pub enum Place {
    /// Its web server, with what it wants to know.
    Web(WebServerConfig),
    /// Its socket in the state directory.
    Socket(PathBuf),
}

impl Place {
    /// As it is called in texts: `http://127.0.0.1:7400`, or the socket's path.
    pub fn url(&self, path: &str) -> String {
        match self {
            Self::Web(config) => format!("http://{}{path}", address(config)),
            Self::Socket(socket) => format!("unix:{}{path}", socket.display()),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens there, or the way there is closed.
    #[error("{0}")]
    Dial(io::Error),
    /// What came is no answer.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be sent like that.
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    /// The answer broke off, or is too long.
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
}

/// Sends a request without a body, and returns the answer.
pub async fn request(
    place: &Place,
    method: Method,
    path: &str,
    limit: Duration,
) -> Result<(StatusCode, Bytes), RequestError> {
    let exchange = async {
        match place {
            Place::Web(config) => {
                let conn = TcpStream::connect((config.addr.as_str(), config.port)).await;
                let conn = conn.map_err(RequestError::Dial)?;
                let host = address(config);
                exchange(conn, &host, authorization(config), method, path).await
            }
            Place::Socket(socket) => {
                let conn = local::connect(socket).await.map_err(RequestError::Dial)?;
                exchange(conn, "localhost", None, method, path).await
            }
        }
    };
    // Boxed because the exchange's state is large.
    tokio::time::timeout(limit, Box::pin(exchange))
        .await
        .map_err(|_| RequestError::Timeout(limit))?
}

async fn exchange(
    conn: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: &str,
    authorization: Option<String>,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), RequestError> {
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(conn)).await?;
    let driver = tokio::spawn(driver);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, host)
        .header(BY_COMMAND, "1");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER_LEN)
        .collect()
        .await
        .map_err(RequestError::Body)?
        .to_bytes();
    driver.abort();
    Ok((status, body))
}

fn authorization(config: &WebServerConfig) -> Option<String> {
    let WebServerConfig { user, password, .. } = config;
    if user.is_empty() && password.is_empty() {
        return None;
    }
    let credentials = STANDARD.encode(format!("{user}:{}", password.expose()));
    Some(format!("Basic {credentials}"))
}

/// A header of requests that a command makes, so that they can be told from others.
pub const BY_COMMAND: &str = "x-holdfast-command";

/// The largest answer that is read: the status of some hundred thousand proxies.
const MAX_ANSWER_LEN: usize = 64 * 1024 * 1024;
