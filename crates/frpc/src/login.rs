//! The login: the first exchange on the first conn of a session.
//!
//! v1: Login, LoginResp in clear, then both ways encrypted with the token. v2: the two hellos go
//! before each of them, and the keys come from both hellos and the token.

use std::time::Duration;

use frp_core::conn::{ConnError, Frame, MessageReader, MessageStream, MessageWriter};
use frp_core::proto::extension::{self, HoldfastHello, HoldfastWelcome};
use frp_core::proto::hello::{self, ControlKeys, HelloError};
use frp_core::proto::msg::{Login, LoginResp, Message};
use frp_core::proto::v2::FrameType;
use frp_core::proto::{WireVersion, cfb, ids};
use frp_core::session::{OpenError, Session};
use frp_core::transform::TransformStream;
use frp_core::transform::aead::{Aead, Side};
use frp_core::transform::cfb::Cfb;
use frp_core::transports::{Class, DialError};

use crate::client::Context;
use crate::go_text;
use crate::transport::has_tls;

/// The version that frpc calls itself: peers and scripts compare it with frp's.
pub const FRP_VERSION: &str = "0.70.1";

/// How long frps has to answer a login. frp's value.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A session has begun.
#[derive(Debug)]
pub(crate) struct LoggedIn {
    /// The session's id, to be sent again when logging in anew.
    pub(crate) run_id: String,
    /// What frps has said of itself, if it is a Holdfast.
    pub(crate) welcome: Option<HoldfastWelcome>,
    /// From frps.
    pub(crate) reader: MessageReader,
    /// To frps.
    pub(crate) writer: MessageWriter,
}

/// Why no session has begun. The texts end up in `connect to server error: ...`.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The server cannot be reached.
    #[error("{}", go_text::dial(.0))]
    Dial(#[from] DialError),
    /// It can, but no conn could be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The exchange broke off.
    #[error(transparent)]
    Conn(#[from] ConnError),
    /// frps refused, in these words.
    #[error("{0}")]
    Refused(String),
    /// frps gave the session a name that cannot be used.
    #[error("the server gave an unusable run id")]
    RunId,
    /// The hellos do not agree.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The system has no randomness.
    #[error("no random numbers from the system: {0}")]
    Random(#[from] getrandom::Error),
}

/// Logs in over a new conn of `session`. `previous_run_id` is empty at first.
pub(crate) async fn login(
    context: &Context,
    session: &Session,
    previous_run_id: &str,
) -> Result<LoggedIn, LoginError> {
    let mut stream = session.open_conn().await?;
    stream.set_class(Class::Control);
    let stream = MessageStream::open(stream, context.wire());
    let message = login_message(context, previous_run_id)?.into();
    tokio::time::timeout(ANSWER_TIMEOUT, exchange(context, stream, &message))
        .await
        .map_err(|_| ConnError::Timeout(ANSWER_TIMEOUT))?
}

async fn exchange(
    context: &Context,
    mut stream: MessageStream,
    login: &Message,
) -> Result<LoggedIn, LoginError> {
    let token = context.token.expose().as_bytes();
    let mut keys = None;
    if stream.wire() == WireVersion::V2 {
        let transport = &context.config.transport;
        let mut random = [0; hello::RANDOM_LEN];
        getrandom::fill(&mut random)?;
        let name = transport.protocol.to_string();
        let client_hello =
            hello::client_hello(&name, has_tls(&context.config), transport.tcp_mux, random);
        stream
            .write_hello(FrameType::ClientHello, &client_hello)
            .await?;
        stream.write(login).await?;
        let Frame::ServerHello(server_hello) = stream.read_frame().await? else {
            return Err(ConnError::Unexpected("another frame", "ServerHello").into());
        };
        let algorithm = hello::check_server_hello(&client_hello, &server_hello)?;
        keys = Some(ControlKeys::derive(
            token,
            algorithm,
            &client_hello,
            &server_hello,
        ));
    } else {
        stream.write(login).await?;
    }

    let answer = match stream.read().await? {
        Message::LoginResp(answer) => answer,
        other => return Err(ConnError::Unexpected(other.name(), "LoginResp").into()),
    };
    let LoginResp {
        run_id,
        error,
        holdfast,
        ..
    } = answer;
    if !error.is_empty() {
        return Err(LoginError::Refused(error));
    }
    // It is sent back with every work conn and the next login, and stands in logs.
    if !ids::is_acceptable(&run_id) {
        return Err(LoginError::RunId);
    }
    if holdfast.is_malformed() {
        tracing::warn!("the server's holdfast extension makes no sense: taken for plain frp");
    }
    // Nothing behind LoginResp has been read, so the cipher starts at its first byte.
    let stream = stream.map(|stream| match keys {
        Some(keys) => Box::new(TransformStream::new(stream, Aead::new(keys, Side::Client))),
        None => Box::new(TransformStream::new(
            stream,
            Cfb::new(cfb::derive_key(token)),
        )),
    });
    let (reader, writer) = stream.split();
    Ok(LoggedIn {
        run_id,
        welcome: holdfast.get().cloned(),
        reader,
        writer,
    })
}

fn login_message(context: &Context, previous_run_id: &str) -> Result<Login, getrandom::Error> {
    let config = &context.config;
    let (privilege_key, timestamp) = context.sign_now();
    let mut client_random = [0; 32];
    getrandom::fill(&mut client_random)?;
    let hello = HoldfastHello {
        version: extension::VERSION,
        capabilities: Vec::new(),
        client_random,
        instance: context.instance,
    };
    Ok(Login {
        version: FRP_VERSION.to_owned(),
        hostname: context.hostname.clone(),
        os: go_os().to_owned(),
        arch: go_arch().to_owned(),
        user: config.user.clone(),
        privilege_key,
        timestamp,
        run_id: previous_run_id.to_owned(),
        client_id: config.client_id.clone(),
        metas: config.metadatas.clone(),
        pool_count: config.transport.pool_count.into(),
        holdfast: hello.into(),
        ..Login::default()
    })
}

/// Go's name for the operating system.
fn go_os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    }
}

/// Go's name for the processor architecture.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        arch => arch,
    }
}
