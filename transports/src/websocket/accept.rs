//! The server's side of the upgrade (RFC 6455 section 4.2), with the checks of frp's server. Beyond
//! these it refuses a request with a body, whose bytes would be taken for frames.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::frame::Side;
use super::head::{Head, HeadError, MAX_HEADERS, all, first};
use super::origin::is_origin;
use super::stream::WebsocketStream;
use crate::info::Io;

/// Why a connection was not upgraded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptError {
    /// It broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The request was not as it has to be. This has been answered.
    #[error("{0}")]
    Refused(&'static str),
}

/// Reads a request for an upgrade at `path`, and grants or refuses it.
pub(crate) async fn accept<IO: Io>(
    mut io: IO,
    path: &str,
) -> Result<WebsocketStream<IO>, AcceptError> {
    let (rest, outcome) = match Head::read(&mut io).await {
        Ok(head) => (head.rest, check(&head.bytes, path)),
        Err(HeadError::TooLong) => (Default::default(), Err(Refusal::HEAD_TOO_LONG)),
        Err(HeadError::Io(e)) => return Err(e.into()),
    };
    match outcome {
        Ok(answer) => {
            io.write_all(answer.as_bytes()).await?;
            io.flush().await?;
            Ok(WebsocketStream::new(io, Side::Server, &rest))
        }
        Err(refusal) => {
            turn_away(&mut io, &refusal).await?;
            Err(AcceptError::Refused(refusal.problem))
        }
    }
}

/// What is wrong with a request, and how that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    status: &'static str,
    header: &'static str,
    problem: &'static str,
}

impl Refusal {
    const HEAD_TOO_LONG: Self = Self {
        status: "431 Request Header Fields Too Large",
        ..Self::bad_request("the request's head is too long")
    };

    const fn bad_request(problem: &'static str) -> Self {
        Self {
            status: "400 Bad Request",
            header: "",
            problem,
        }
    }

    const fn not_found() -> Self {
        Self {
            status: "404 Not Found",
            ..Self::bad_request("nothing is served at this path")
        }
    }

    const fn version() -> Self {
        Self {
            // Section 4.4.
            header: "Sec-WebSocket-Version: 13\r\n",
            ..Self::bad_request("the version is not 13")
        }
    }

    const fn origin() -> Self {
        Self {
            status: "403 Forbidden",
            ..Self::bad_request("the Origin is missing or no URL")
        }
    }

    fn text(&self) -> String {
        let Self {
            status,
            header,
            problem,
        } = self;
        // As frp's, without a body.
        let body = if *self == Self::origin() { "" } else { problem };
        format!("HTTP/1.1 {status}\r\n{header}\r\n{body}")
    }
}

/// Checks a request. Returns the answer that grants it.
fn check(head: &[u8], path: &str) -> Result<String, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HEAD_TOO_LONG),
        _ => return Err(Refusal::bad_request("the request is not HTTP")),
    }
    let headers = &*request.headers;
    let first_is = |name, value: &str| {
        first(headers, name).is_some_and(|found| found.eq_ignore_ascii_case(value.as_bytes()))
    };
    if request.method != Some("GET") {
        return Err(Refusal::bad_request("the method is not GET"));
    }
    let target = request.path.unwrap_or_default();
    if target.split('?').next() != Some(path) {
        return Err(Refusal::not_found());
    }
    // RFC 9112 section 3.2.
    let n_hosts = all(headers, "Host").count();
    if n_hosts > 1 || (n_hosts == 0 && request.version == Some(1)) {
        return Err(Refusal::bad_request("there is not one Host"));
    }
    let is_empty = all(headers, "Content-Length").all(|len| len == b"0");
    if !is_empty || first(headers, "Transfer-Encoding").is_some() {
        return Err(Refusal::bad_request("the request has a body"));
    }
    if !first_is("Upgrade", "websocket") || !all(headers, "Connection").any(has_upgrade) {
        return Err(Refusal::bad_request(
            "no upgrade to a WebSocket is asked for",
        ));
    }
    let key = first(headers, "Sec-WebSocket-Key").unwrap_or_default();
    if key.is_empty() {
        return Err(Refusal::bad_request("the key is missing"));
    }
    if !first_is("Sec-WebSocket-Version", "13") {
        return Err(Refusal::version());
    }
    if !first(headers, "Origin").is_some_and(is_origin) {
        return Err(Refusal::origin());
    }
    let protocol = match first(headers, "Sec-WebSocket-Protocol") {
        None | Some(b"") => String::new(),
        Some(protocol) => {
            let one = str::from_utf8(protocol)
                .ok()
                .filter(|one| !one.contains(','));
            let one = one.ok_or(Refusal::bad_request("more than one protocol is offered"))?;
            format!("Sec-WebSocket-Protocol: {one}\r\n")
        }
    };
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{protocol}\r\n",
        accept_value(key)
    ))
}

fn has_upgrade(connection: &[u8]) -> bool {
    connection
        .windows(b"upgrade".len())
        .any(|part| part.eq_ignore_ascii_case(b"upgrade"))
}

/// What shows that the request was understood (section 4.2.2).
pub(super) fn accept_value(key: &[u8]) -> String {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    STANDARD.encode(digest)
}

/// Answers a refused request. A socket that is closed over unread bytes takes back what it has
/// sent, so what the peer has under way is waited for and thrown away.
async fn turn_away<IO: Io>(io: &mut IO, refusal: &Refusal) -> io::Result<()> {
    io.write_all(refusal.text().as_bytes()).await?;
    io.shutdown().await?;
    let mut rest = io.take(LINGER_LEN);
    let _ = timeout(LINGER, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    Ok(())
}

/// How long a refused peer is listened to, and how much of what it says. It has had its answer, and
/// holds a half-open place.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_LEN: u64 = 64 * 1024;

/// Checks arbitrary bytes as a request.
pub(super) fn fuzz(head: &[u8]) {
    if let Ok(answer) = check(head, "/~!frp") {
        let n_empty_lines = answer.matches("\r\n\r\n").count();
        assert!(
            n_empty_lines == 1 && answer.ends_with("\r\n\r\n"),
            "{answer:?}"
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The request of frpc and the answer of frps, as recorded.
    const REQUEST: &str = "GET /~!frp HTTP/1.1\r\n\
        Host: 127.0.0.1:17703\r\n\
        Upgrade: websocket\r\n\
        Connection: Upgrade\r\n\
        Sec-WebSocket-Key: uWkQrrrYty5ZmnwMhk6A3Q==\r\n\
        Origin: http://127.0.0.1:17703\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";

    #[test]
    fn the_accept_value_is_that_of_the_specification() {
        let accept = accept_value(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frps_request_is_granted_and_so_is_what_a_proxy_makes_of_it() {
        for request in [
            REQUEST.to_owned(),
            REQUEST
                .to_lowercase()
                .replace("get /~!frp http", "GET /~!frp HTTP"),
            REQUEST.replace("\r\n", "\n"),
            REQUEST.replace("/~!frp", "/~!frp?a=b"),
            REQUEST.replace("HTTP/1.1", "HTTP/1.0"),
            with("Connection", "keep-alive, upgrade"),
            with("Connection", "keep-alive\r\nConnection: Upgrade"),
            with("Upgrade", "WebSocket"),
            with("Origin", "/"),
            with(
                "Host",
                "h\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 0",
            ),
            with("Host", "h\r\nSec-WebSocket-Extensions: permessage-deflate"),
        ] {
            let answer = check(request.as_bytes(), "/~!frp");
            assert!(
                answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 101 ")),
                "{request}"
            );
        }
    }

    #[test]
    fn the_one_protocol_that_is_offered_is_agreed_on() {
        let request = with("Host", "h\r\nSec-WebSocket-Protocol: chat");
        let answer = check(request.as_bytes(), "/~!frp").unwrap();
        assert!(answer.ends_with("\r\nSec-WebSocket-Protocol: chat\r\n\r\n"));
    }

    #[test]
    fn each_fault_has_its_answer() {
        for (request, status) in [
            (with("Upgrade", "h2c"), "400"),
            (without("Upgrade"), "400"),
            (with("Connection", "close"), "400"),
            (without("Connection"), "400"),
            (without("Sec-WebSocket-Key"), "400"),
            (with("Sec-WebSocket-Key", ""), "400"),
            (without("Sec-WebSocket-Version"), "400"),
            (with("Sec-WebSocket-Version", "8"), "400"),
            (with("Sec-WebSocket-Version", "130"), "400"),
            (without("Origin"), "403"),
            (with("Origin", ""), "403"),
            (with("Origin", "null"), "403"),
            (without("Host"), "400"),
            (with("Host", "a\r\nHost: b"), "400"),
            (with("Host", "a\r\nContent-Length: 5"), "400"),
            (with("Host", "a\r\nTransfer-Encoding: chunked"), "400"),
            (with("Host", "a\r\nSec-WebSocket-Protocol: a, b"), "400"),
            (REQUEST.replace("GET ", "POST "), "400"),
            (REQUEST.replace("/~!frp", "/~!frp/"), "404"),
            (REQUEST.replace("/~!frp", "/~!frpx"), "404"),
            (REQUEST.replace("HTTP/1.1", "HTTP/2.0"), "400"),
            (REQUEST.replace("Host:", "Host"), "400"),
            (REQUEST.replace("Host:", "\r\nHost:"), "400"),
            (with("Host", &"a\r\nX: y".repeat(80)), "431"),
        ] {
            let refusal = check(request.as_bytes(), "/~!frp").unwrap_err();
            let text = refusal.text();
            assert!(
                text.starts_with(&format!("HTTP/1.1 {status} ")),
                "{request}{text}"
            );
        }
    }

    #[test]
    fn a_refusal_for_the_origin_has_no_body_and_one_for_the_version_names_the_right_one() {
        assert_eq!(Refusal::origin().text(), "HTTP/1.1 403 Forbidden\r\n\r\n");
        assert!(
            Refusal::version()
                .text()
                .contains("\r\nSec-WebSocket-Version: 13\r\n\r\n")
        );
    }

    fn with(name: &str, value: &str) -> String {
        let lines = REQUEST.split_inclusive("\r\n").map(|line| {
            if line.starts_with(&format!("{name}:")) {
                format!("{name}: {value}\r\n")
            } else {
                line.to_owned()
            }
        });
        lines.collect()
    }

    fn without(name: &str) -> String {
        let lines = REQUEST.split_inclusive("\r\n");
        lines
            .filter(|line| !line.starts_with(&format!("{name}:")))
            .collect()
    }
}
