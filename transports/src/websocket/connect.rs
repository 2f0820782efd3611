//! The client's side of the upgrade (RFC 6455 section 4.1), with the request of frp's client.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng as _;
use tokio::io::AsyncWriteExt;

use super::accept::accept_value;
use super::frame::Side;
use super::head::{Head, HeadError, MAX_HEADERS, first};
use super::stream::WebsocketStream;
use crate::info::Io;

/// Why the server did not upgrade the connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The name of the host cannot stand in a request.
    #[error("the server's name has characters that no host name has")]
    Host,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server says no, or leads elsewhere.
    #[error("the answer is {0:?}")]
    Refused(String),
    /// The answer is not one to our request.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Asks for an upgrade at `path`. `host` is for the header, with a port or without.
pub(super) async fn connect<IO: Io>(
    mut io: IO,
    host: &str,
    path: &str,
) -> Result<WebsocketStream<IO>, ConnectError> {
    if host.is_empty() || host.contains(|c: char| c.is_control() || c == ' ') {
        return Err(ConnectError::Host);
    }
    let key = new_key();
    io.write_all(request(host, path, &key).as_bytes()).await?;
    io.flush().await?;
    let head = match Head::read(&mut io).await {
        Ok(head) => head,
        Err(HeadError::Io(e)) => return Err(e.into()),
        Err(HeadError::TooLong) => {
            return Err(ConnectError::Invalid(
                "the answer's head is longer than 8 KiB",
            ));
        }
    };
    check(&head.bytes, &key)?;
    Ok(WebsocketStream::new(io, Side::Client, &head.rest))
}

/// The headers that frp sends, in its order.
fn request(host: &str, path: &str, key: &str) -> String {
    let origin_host = host.to_lowercase();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nOrigin: http://{origin_host}\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n"
    )
}

fn new_key() -> String {
    let mut nonce = [0; 16];
    rand::rng().fill_bytes(&mut nonce);
    STANDARD.encode(nonce)
}

/// Go's checks of the answer.
fn check(head: &[u8], key: &str) -> Result<(), ConnectError> {
    let invalid = |problem| Err(ConnectError::Invalid(problem));
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    if !matches!(answer.parse(head), Ok(httparse::Status::Complete(_))) {
        return invalid("the answer is not HTTP");
    }
    let code = answer.code.unwrap_or_default();
    if code != 101 {
        let reason = answer.reason.unwrap_or_default();
        // It goes into our log, so not at any length.
        let text = format!("{code} {reason}").chars().take(120).collect();
        return Err(ConnectError::Refused(text));
    }
    let get = |name| first(answer.headers, name).unwrap_or_default();
    if !get("Upgrade").eq_ignore_ascii_case(b"websocket")
        || !get("Connection").eq_ignore_ascii_case(b"upgrade")
    {
        return invalid("the answer upgrades to something else");
    }
    if get("Sec-WebSocket-Accept") != accept_value(key.as_bytes()).as_bytes() {
        return invalid("the answer is to another request");
    }
    if !get("Sec-WebSocket-Extensions").is_empty() || !get("Sec-WebSocket-Protocol").is_empty() {
        return invalid("the answer agrees to what was not offered");
    }
    Ok(())
}

/// Checks arbitrary bytes as an answer.
pub(super) fn fuzz(head: &[u8]) {
    let _ = check(head, "dGhlIHNhbXBsZSBub25jZQ==");
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn the_request_is_that_of_frpc() {
        assert_eq!(
            request("Frps.Example:7000", "/~!frp", KEY),
            "GET /~!frp HTTP/1.1\r\nHost: Frps.Example:7000\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Origin: http://frps.example:7000\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        assert_eq!(STANDARD.decode(new_key()).unwrap().len(), 16);
        assert_ne!(new_key(), new_key());
    }

    #[test]
    fn the_right_answer_is_taken_in_any_case_of_letters() {
        for answer in [
            ANSWER.to_owned(),
            ANSWER.replace("Upgrade: websocket", "upgrade: WebSocket"),
            ANSWER.replace("Connection: Upgrade", "CONNECTION: upgrade"),
            ANSWER.replace("HTTP/1.1", "HTTP/1.0"),
            ANSWER.replace("Upgrade: w", "Server: nginx\r\nUpgrade: w"),
        ] {
            check(answer.as_bytes(), KEY).unwrap();
        }
    }

    #[test]
    fn every_other_answer_is_refused() {
        for (from, to, expected) in [
            ("101 Switching Protocols", "404 Not Found", "404 Not Found"),
            ("101 Switching", "200 Switching", "200 Switching Protocols"),
            ("HTTP/1.1 101", "SSH-2.0", "not HTTP"),
            (": websocket", ": h2c", "something else"),
            ("Upgrade: websocket\r\n", "", "something else"),
            ("Connection: Upgrade\r\n", "", "something else"),
            (": Upgrade", ": keep-alive, Upgrade", "something else"),
            ("s3pPLMB", "S3pPLMB", "another request"),
            (
                "\r\n\r\n",
                "\r\nSec-WebSocket-Extensions: x\r\n\r\n",
                "not offered",
            ),
            (
                "\r\n\r\n",
                "\r\nSec-WebSocket-Protocol: x\r\n\r\n",
                "not offered",
            ),
        ] {
            let answer = ANSWER.replacen(from, to, 1);
            let error = check(answer.as_bytes(), KEY).unwrap_err().to_string();
            assert!(error.contains(expected), "{answer}: {error}");
        }
    }
}
