//! The commands that talk to a running frpc: `reload`, `status`, `stop`, and our `switch`.
//!
//! Plain HTTP, as frp: the address and the password come from the `webServer` table of the
//! configuration file. Without one it goes over the socket in the state directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use frp_core::config::{ClientConfig, WebServerConfig};
use frp_core::web::client::{Place, RequestError, request};
use frp_core::web::{self, local};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;

use crate::go_text;
use crate::links::LinksStatus;
use crate::status::StatusByKind;
use crate::status::overview::Overview;

/// The admin API of a running frpc.
#[derive(Debug)]
pub struct AdminClient {
    place: Place,
    timeout: Duration,
}

/// The program's name in paths.
pub(crate) const PROGRAM: &str = "frpc";

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
    /// There is no web server, and nobody answers on the socket.
    #[error(
        "web server port should be set if you want to use this feature; without it frpc listens \
         on {}, and nobody answers there ({cause}): is it running with this configuration, and as \
         the same user?",
        path.display()
    )]
    NotThere {
        /// The socket.
        path: PathBuf,
        /// What happened.
        cause: String,
    },
    /// There is neither a web server nor a state directory.
    #[error("web server port should be set if you want to use this feature")]
    NoWay,
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

impl AdminClient {
    /// The API that `config` describes. `timeout` is for each request as a whole.
    pub fn new(config: &WebServerConfig, timeout: Duration) -> Self {
        Self {
            place: Place::Web(config.clone()),
            timeout,
        }
    }

    /// That of the frpc that runs with `config`, read from `file`.
    pub fn of(config: &ClientConfig, file: &Path, timeout: Duration) -> Result<Self, AdminError> {
        if config.web_server.port != 0 {
            return Ok(Self::new(&config.web_server, timeout));
        }
        let path = local::find(config.state_dir.as_deref(), PROGRAM, Some(file));
        let path = path.ok_or(AdminError::NoWay)?;
        Ok(Self::local(&path, timeout))
    }

    /// That behind the socket at `path`.
    pub fn local(path: &Path, timeout: Duration) -> Self {
        Self {
            place: Place::Socket(path.to_owned()),
            timeout,
        }
    }

    /// All that there is to say of it. Of a frpc of frp's, that is its proxies.
    pub async fn overview(&self) -> Result<Overview, AdminError> {
        match self.send(Method::GET, "/api/overview").await? {
            (StatusCode::OK, body) => serde_json::from_slice(&body)
                .map_err(|_| AdminError::Answer(String::from_utf8_lossy(&body).trim().to_owned())),
            (StatusCode::NOT_FOUND, _) => Ok(Overview::of_frp(&self.status().await?)),
            (status, _) => Err(AdminError::Status(status.as_u16())),
        }
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
        let verb = if method == Method::POST {
            "Post"
        } else {
            "Get"
        };
        request(&self.place, method, path, self.timeout)
            .await
            .map_err(|error| {
                if let (Place::Socket(path), RequestError::Dial(source)) = (&self.place, &error) {
                    return AdminError::NotThere {
                        path: path.clone(),
                        cause: go_text::connect(source),
                    };
                }
                AdminError::Request {
                    verb,
                    url: self.place.url(path),
                    cause: self.cause(&error),
                }
            })
    }

    fn cause(&self, error: &RequestError) -> String {
        match (error, &self.place) {
            (RequestError::Dial(source), Place::Web(config)) => {
                format!(
                    "dial tcp {}: {}",
                    web::address(config),
                    go_text::connect(source)
                )
            }
            (RequestError::Timeout(_), _) => "context deadline exceeded".to_owned(),
            (error, _) => error.to_string(),
        }
    }
}

/// What the API says of its errors.
#[derive(Debug, serde::Deserialize)]
struct ErrorAnswer {
    #[serde(rename = "Msg")]
    text: String,
}
