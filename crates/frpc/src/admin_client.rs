//! The commands that talk to a running frpc: `reload`, `status`, `stop`, and our `switch`.
//!
//! Plain HTTP, as frp: the address and the password come from the `webServer` table of the
//! configuration file.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use frp_core::config::WebServerConfig;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::admin::BY_COMMAND;
use crate::go_text;
use crate::links::LinksStatus;
use crate::status::StatusByKind;

/// The admin API of a running frpc.
#[derive(Debug)]
pub struct AdminClient<'a> {
    config: &'a WebServerConfig,
    timeout: Duration,
}

/// Why a running frpc did not do what was asked. The texts are frp's.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It cannot be reached, or breaks off.
    #[error("{verb} {url:?}: {cause}")]
    Request {
        /// `Get` or `Post`.
        verb: &'static str,
        /// What was asked for.
        url: String,
        /// What happened.
        cause: String,
    },
    /// It answered something else than yes.
    #[error("api status code [{0}]")]
    Status(u16),
    /// It refused, in these words.
    #[error("{0}")]
    Refused(String),
    /// The answer makes no sense.
    #[error("unmarshal http response error: {0}")]
    Answer(String),
}

impl<'a> AdminClient<'a> {
    /// The API that `config` describes. `timeout` is for each request as a whole.
    pub fn new(config: &'a WebServerConfig, timeout: Duration) -> Self {
        Self { config, timeout }
    }

    /// Makes it read its configuration again.
    pub async fn reload(&self, strict: bool) -> Result<(), AdminError> {
        let query = if strict { "?strictConfig=true" } else { "" };
        self.request(Method::GET, &format!("/api/reload{query}"))
            .await
            .map(drop)
    }

    /// Where its proxies stand.
    pub async fn status(&self) -> Result<StatusByKind, AdminError> {
        let body = self.request(Method::GET, "/api/status").await?;
        serde_json::from_slice(&body)
            .map_err(|_| AdminError::Answer(String::from_utf8_lossy(&body).trim().to_owned()))
    }

    /// Makes it end in good order.
    pub async fn stop(&self) -> Result<(), AdminError> {
        self.request(Method::POST, "/api/stop").await.map(drop)
    }

    /// Has it go over to this transport, or decide by itself again (`auto`).
    pub async fn switch(&self, transport: &str) -> Result<(), AdminError> {
        let transport: String =
            url::form_urlencoded::byte_serialize(transport.as_bytes()).collect();
        self.post(&format!("/api/switch?transport={transport}"))
            .await
            .map(drop)
    }

    /// Asks for something of ours.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminError> {
        let body = self.request(Method::GET, path).await?;
        serde_json::from_slice(&body)
            .map_err(|_| AdminError::Answer(String::from_utf8_lossy(&body).trim().to_owned()))
    }

    /// Has something of ours done, and returns what it said.
    pub async fn post(&self, path: &str) -> Result<Bytes, AdminError> {
        match self.send(Method::POST, path).await? {
            (StatusCode::OK, body) => Ok(body),
            (StatusCode::BAD_REQUEST, body) => {
                let answer = serde_json::from_slice::<ErrorAnswer>(&body);
                let answer = answer.map_err(|error| AdminError::Answer(error.to_string()))?;
                Err(AdminError::Refused(answer.text))
            }
            (status, _) => Err(AdminError::Status(status.as_u16())),
        }
    }

    /// The carriers to the server, and what was decided about them.
    pub async fn links(&self) -> Result<LinksStatus, AdminError> {
        let body = self.request(Method::GET, "/api/links").await?;
        serde_json::from_slice(&body)
            .map_err(|_| AdminError::Answer(String::from_utf8_lossy(&body).trim().to_owned()))
    }

    async fn request(&self, method: Method, path: &str) -> Result<Bytes, AdminError> {
        match self.send(method, path).await? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(AdminError::Status(status.as_u16())),
        }
    }

    async fn send(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
        let WebServerConfig { addr, port, .. } = self.config;
        let host = if addr.contains(':') {
            format!("[{addr}]:{port}")
        } else {
            format!("{addr}:{port}")
        };
        let verb = if method == Method::POST {
            "Post"
        } else {
            "Get"
        };
        let failed = |cause: String| AdminError::Request {
            verb,
            url: format!("http://{host}{path}"),
            cause,
        };
        let exchange = self.exchange(&host, method, path);
        tokio::time::timeout(self.timeout, exchange)
            .await
            .map_err(|_| failed("context deadline exceeded".to_owned()))?
            .map_err(|error| failed(error.to_string()))
    }

    async fn exchange(
        &self,
        host: &str,
        method: Method,
        path: &str,
    ) -> Result<(StatusCode, Bytes), ExchangeError> {
        let WebServerConfig {
            addr,
            port,
            user,
            password,
            ..
        } = self.config;
        let conn = TcpStream::connect((addr.as_str(), *port))
            .await
            .map_err(|source| ExchangeError::Dial {
                host: host.to_owned(),
                source,
            })?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(conn)).await?;
        let driver = tokio::spawn(driver);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(BY_COMMAND, "1")
            .header(header::HOST, host);
        if !user.is_empty() || !password.is_empty() {
            let credentials = STANDARD.encode(format!("{user}:{}", password.expose()));
            request = request.header(header::AUTHORIZATION, format!("Basic {credentials}"));
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_LEN)
            .collect()
            .await
            .map_err(ExchangeError::Body)?
            .to_bytes();
        driver.abort();
        Ok((status, body))
    }
}

/// What the API says of its errors.
#[derive(Debug, serde::Deserialize)]
struct ErrorAnswer {
    #[serde(rename = "Msg")]
    text: String,
}

/// The largest answer that is read: the status of some hundred thousand proxies.
const MAX_ANSWER_LEN: usize = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error("dial tcp {host}: {}", go_text::connect(source))]
    Dial { host: String, source: io::Error },
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("{0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}
