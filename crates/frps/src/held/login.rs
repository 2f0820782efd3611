//! What a login says of held streams, and what it is answered.

use std::collections::VecDeque;
use std::sync::Arc;

use frp_core::hold::watch::Allowance;
use frp_core::hold::{HeldSession, join};
use frp_core::proto::extension::{Extension, HoldfastWelcome, SessionLimits, VERSION};
use frp_core::proto::hold::key::SessionKey;
use frp_core::proto::hold::session::{Config, Role};
use frp_core::proto::msg::Login;
use frp_core::task;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Held;
use super::carriers::Carriers;
use crate::link::Link;
use crate::server::{Server, reject};
use crate::session::Session;

/// What a Holdfast client is told of this server. A plain frpc is told nothing. From here on the
/// session has held streams, if it is to have them.
pub(crate) fn welcome(server: &Arc<Server>, session: &Arc<Session>) -> Extension<HoldfastWelcome> {
    let Some(hello) = session.login.holdfast.get() else {
        return Extension::Absent;
    };
    let mut welcome = HoldfastWelcome {
        version: hello.version.min(VERSION),
        session_id: rand::random(),
        server_random: rand::random(),
        endpoints: server.endpoints(&*session.link.carrier),
        ..HoldfastWelcome::default()
    };
    match hold(server, session, &welcome) {
        Ok(held) => {
            let key = held.session.key();
            welcome.grace = server.config.transport.hold.grace;
            welcome.proof = Some(key.login_proof(&welcome.session_id));
            welcome.limits = SessionLimits {
                held_streams: MAX_STREAMS as u64,
                replay_bytes: MAX_BYTES,
            };
            info!(
                "connections of this client are kept for up to {} s when its link fails",
                welcome.grace.as_secs()
            );
        }
        Err(why) => info!("connections of this client end with the one to the client: {why}"),
    }
    Extension::from(welcome)
}

/// Makes the held session, or says why there is none.
fn hold(
    server: &Arc<Server>,
    session: &Arc<Session>,
    welcome: &HoldfastWelcome,
) -> Result<Arc<Held>, &'static str> {
    let link = &session.link;
    let hold = server.config.transport.hold;
    let hello = session.login.holdfast.get().ok_or("it is plain frp")?;
    if !hold.enable || hold.grace.is_zero() {
        return Err("transport.hold is off here");
    }
    if !hello.capabilities.iter().any(|name| name == CAPABILITY) {
        return Err("it does not ask for more");
    }
    if !link.carrier.is_multiplexed() {
        return Err("there is no multiplexing (transport.tcpMux)");
    }
    let exporter = join::exporter(&link.carrier).map_err(|_| "there is no TLS")?;
    let key = SessionKey::derive(
        &hello.client_random,
        &welcome.server_random,
        &exporter,
        server.auth.token(),
    );
    let config = Config {
        role: Role::Server,
        instance: hello.instance,
        grace: hold.grace,
        max_streams: MAX_STREAMS,
        max_bytes: MAX_BYTES,
    };
    let resume = key.resume_key();
    let held = Arc::new(Held {
        session: HeldSession::new(config, welcome.session_id, key, &server.held.budget),
        owner: Arc::downgrade(session),
        resume,
        is_begun: CancellationToken::new(),
        carriers: Carriers::default(),
        allowance: Allowance::default(),
        switches: Mutex::new(VecDeque::new()),
        switch_counts: Mutex::default(),
        recheck: Notify::new(),
    });
    if !link.belong_to(&held) {
        return Err("another session has this connection");
    }
    session.hold(Arc::clone(&held));
    server.held.insert(&held);
    task::spawn("held session", Arc::clone(&held).follow());
    Ok(held)
}

/// The session before of a client that has restarted, if the login proves that it is that client.
/// It is over by then. What is left to be done is to wait until it has given everything back.
pub(crate) fn take_over(
    server: &Arc<Server>,
    link: &Arc<Link>,
    login: &Login,
) -> Option<Arc<Session>> {
    let hello = login.holdfast.get()?;
    let resume = hello.resume.as_ref()?;
    // Not there any more after a restart, or when its time was up: nothing is in the way then.
    let held = server.held.get(&resume.session_id)?;
    let exporter = join::exporter(&link.carrier).ok()?;
    if !held
        .resume
        .verify(&resume.session_id, &exporter, &resume.proof)
    {
        debug!("the client does not prove the session that it wants to take over");
        reject("resume proof");
        return None;
    }
    if !held.session.handle_login(hello.instance) {
        return None;
    }
    held.owner.upgrade()
}

/// The name of held streams in `holdfast.capabilities`.
const CAPABILITY: &str = "hold";

/// Streams of one client that are held at once: half again what one server is meant to carry. Each
/// may receive its first window of 64 KiB beyond all budgets, 2 GiB in the worst of cases. Further
/// ones are refused.
const MAX_STREAMS: usize = 32_768;

/// What the streams of one client may keep together, of what all clients may. A stream at 1 Gbit/s
/// and 20 ms keeps 15 MB; beyond this each sends on with its floor of 16 KiB, and its user waits.
const MAX_BYTES: u64 = 128 * 1024 * 1024;
