//! A webhook: one HTTP request for each message, on a connection of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use frp_core::config::Secret;
use frp_core::transports::tls::ClientTls;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// Of an answer, which nobody looks at. One that is longer is cut off.
const MAX_ANSWER_LEN: usize = 64 * 1024;

/// Posts `body`. Whoever calls this bounds its time. An error does not repeat the URL.
pub(super) async fn post(
    url: &Url,
    headers: &BTreeMap<String, Secret>,
    body: Vec<u8>,
) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    // Brackets are the URL's, not the address's.
    let name = host.trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    let conn = TcpStream::connect((name, port))
        .await
        .map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
    match url.scheme() {
        "https" => {
            let tls = system_tls()?;
            let conn = tls
                .connect(name, conn)
                .await
                .map_err(|error| format!("TLS with {host}: {error}"))?;
            exchange(conn, url, headers, body).await
        }
        _ => exchange(conn, url, headers, body).await,
    }
}

async fn exchange<IO>(
    io: IO,
    url: &Url,
    headers: &BTreeMap<String, Secret>,
    body: Vec<u8>,
) -> Result<(), String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let text = |error: hyper::Error| error.to_string();
    let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(text)?;
    // Ends with this exchange, however that ends.
    let _driver = AbortOnDropHandle::new(tokio::spawn(driver));
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(
            header::USER_AGENT,
            concat!("holdfast/", env!("CARGO_PKG_VERSION")),
        );
    for (name, value) in headers {
        request = request.header(name, value.expose());
    }
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(text)?;
    let status = response.status();
    // Read, so that the other end sees a connection that ends in good order; what it says is
    // nothing to us.
    let _ = Limited::new(response.into_body(), MAX_ANSWER_LEN)
        .collect()
        .await;
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("it answered {status}")),
    }
}

/// Vouched for by the system's authorities, which are read once.
fn system_tls() -> Result<Arc<ClientTls>, String> {
    static TLS: OnceLock<Arc<ClientTls>> = OnceLock::new();
    if let Some(tls) = TLS.get() {
        return Ok(tls.clone());
    }
    let tls = ClientTls::with_system_roots().map_err(|error| error.to_string())?;
    Ok(TLS.get_or_init(|| Arc::new(tls)).clone())
}
