//! The program's life: log in, work until the session is lost, log in again.
//!
//! A [`Client`] holds what outlives sessions: the configuration, the run id, the services that the
//! last reload asked for. One session at a time is run by a control; what the admin API asks
//! reaches it through its handle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use frp_core::config::{ClientConfig, Secret, WireProtocol};
use frp_core::proto::ids::Short;
use frp_core::proto::{WireVersion, auth};
use frp_core::session::Session;
use frp_core::task;
use frp_core::transports::{Endpoint, Transport};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::control::{Control, ControlEnd, ControlHandle, Services};
use crate::login::{LoggedIn, LoginError, login};
use crate::retry::{Backoff, FIRST_LOGIN_CAP, RELOGIN_CAP, Reconnect};
use crate::status::ProxyStatus;
use crate::transport::needs_goodbye;

/// One frpc: a server, and what is published and visited there.
#[derive(Debug)]
pub struct Client {
    context: Arc<Context>,
    transport: Arc<dyn Transport>,
    server: Endpoint,
    services: Mutex<Arc<Services>>,
    control: Mutex<Option<ControlHandle>>,
    /// The server has been a Holdfast before: said once.
    has_met_holdfast: AtomicBool,
    stopped: CancellationToken,
}

/// What every part of a client needs to know.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration, apart from the services.
    pub(crate) config: ClientConfig,
    /// The token, from wherever it came.
    pub(crate) token: Secret,
    /// The host's name.
    pub(crate) hostname: String,
    /// Chosen at random when the process starts: tells a restart from a reconnect.
    pub(crate) instance: [u8; 16],
}

impl Context {
    /// The wire format that is configured.
    pub(crate) fn wire(&self) -> WireVersion {
        match self.config.transport.wire_protocol {
            WireProtocol::V1 => WireVersion::V1,
            WireProtocol::V2 => WireVersion::V2,
        }
    }

    /// A proof of the token, and the time it is made for.
    pub(crate) fn sign_now(&self) -> (String, i64) {
        let now = unix_now();
        (
            auth::privilege_key(self.token.expose().as_bytes(), now),
            now,
        )
    }
}

/// Seconds since 1970, as messages carry them.
pub(crate) fn unix_now() -> i64 {
    // A clock before 1970 is wrong anyway; frps checks the proof, not the time.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Why a client has ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The first login failed, and `loginFailExit` is set. The text is frp's.
    #[error(
        "login to the server failed: {0}. With loginFailExit enabled, no additional retries will \
         be attempted"
    )]
    FirstLogin(LoginError),
}

impl Client {
    /// A client of the server that `transport` leads to. `token` is the resolved one, `instance`
    /// is random and the same for all clients of this process.
    pub fn new(
        mut config: ClientConfig,
        token: Secret,
        transport: Arc<dyn Transport>,
        instance: [u8; 16],
    ) -> Arc<Self> {
        let server = Endpoint {
            host: config.server_addr.clone(),
            port: config.server_port,
        };
        let services = Services {
            proxies: std::mem::take(&mut config.proxies),
            visitors: std::mem::take(&mut config.visitors),
        };
        let context = Arc::new(Context {
            config,
            token,
            hostname: hostname(),
            instance,
        });
        Arc::new(Self {
            context,
            transport,
            server,
            services: Mutex::new(Arc::new(services)),
            control: Mutex::new(None),
            has_met_holdfast: AtomicBool::new(false),
            stopped: CancellationToken::new(),
        })
    }

    /// Works until [`Client::stop`] is called, or the first login fails and `loginFailExit` says
    /// that this is the end.
    pub async fn run(&self) -> Result<(), ClientError> {
        tokio::select! {
            result = self.work() => result,
            () = self.stopped.cancelled() => Ok(()),
        }
    }

    /// Takes all proxies back, leaves frps `grace` to read that, closes the session and ends
    /// [`Client::run`].
    pub async fn stop(&self, grace: Duration) {
        let control = self.control.lock().clone();
        if let Some(control) = control {
            // A control that does not come to its end must not keep the program from its own.
            let _ = tokio::time::timeout(grace + STOP_LIMIT, control.close(grace)).await;
        }
        self.stopped.cancel();
    }

    /// Says whether frps has to be told when the program ends.
    pub(crate) fn needs_goodbye(&self) -> bool {
        needs_goodbye(self.transport.kind())
    }

    /// Publishes and visits `services` from here on. What is equal is left alone. Without a
    /// session they are kept for the next one.
    pub async fn update(&self, services: Services) {
        let services = Arc::new(services);
        *self.services.lock() = services.clone();
        let control = self.control.lock().clone();
        if let Some(control) = control {
            control.update(services).await;
        }
    }

    /// Every proxy of the live session and where it stands, by name. Empty without a session.
    pub fn status(&self) -> Vec<ProxyStatus> {
        let control = self.control.lock().clone();
        let Some(control) = control else {
            return Vec::new();
        };
        let proxies = control.proxies.lock();
        proxies
            .iter()
            .map(|(config, state)| {
                ProxyStatus::new(config, state, &self.context.config.server_addr)
            })
            .collect()
    }

    async fn work(&self) -> Result<(), ClientError> {
        let mut run_id = String::new();
        let mut reconnect = Reconnect::new();
        let mut is_first = true;
        loop {
            let (session, logged_in) = self
                .log_in(&run_id, is_first)
                .instrument(control_span(&run_id))
                .await
                .map_err(ClientError::FirstLogin)?;
            is_first = false;
            run_id.clone_from(&logged_in.run_id);
            self.run_session(session, logged_in)
                .instrument(control_span(&run_id))
                .await;
            if self.stopped.is_cancelled() {
                return Ok(());
            }
            let wait = reconnect.handle_loss(Instant::now(), rand::random());
            tokio::time::sleep(wait).await;
        }
    }

    /// Tries until it works. Fails only at the first login, and only with `loginFailExit`.
    async fn log_in(
        &self,
        run_id: &str,
        is_first: bool,
    ) -> Result<(Arc<Session>, LoggedIn), LoginError> {
        let mut backoff = Backoff::new(if is_first {
            FIRST_LOGIN_CAP
        } else {
            RELOGIN_CAP
        });
        loop {
            tracing::info!("try to connect to server...");
            match self.try_log_in(run_id).await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    tracing::warn!("connect to server error: {error}");
                    if is_first && self.context.config.login_fail_exit {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(backoff.next_wait(rand::random())).await;
        }
    }

    async fn try_log_in(&self, run_id: &str) -> Result<(Arc<Session>, LoggedIn), LoginError> {
        let session = Session::dial(self.transport.clone(), self.server.clone()).await?;
        let session = Arc::new(session);
        match login(&self.context, &session, run_id).await {
            Ok(logged_in) => Ok((session, logged_in)),
            Err(error) => {
                session.carrier().close();
                Err(error)
            }
        }
    }

    async fn run_session(&self, session: Arc<Session>, logged_in: LoggedIn) {
        tracing::info!(
            "login to server success, get run id [{}]",
            Short(&logged_in.run_id)
        );
        if logged_in.welcome.is_some() {
            session.carrier().handle_holdfast_peer();
        }
        if let Some(welcome) = &logged_in.welcome
            && !self.has_met_holdfast.swap(true, Ordering::Relaxed)
        {
            tracing::info!(
                "the server is a Holdfast, extension version {}",
                welcome.version
            );
        }
        let (control, handle) = Control::new(self.context.clone(), session, logged_in);
        // The handle first, then the services: a reload in between reaches the control one way
        // or the other.
        *self.control.lock() = Some(handle);
        let services = self.services.lock().clone();
        let (ended, end) = oneshot::channel();
        let task = task::spawn("control", async move {
            // Nobody waits for a control whose client has been stopped.
            let _ = ended.send(control.run(&services).await);
        });
        // A panic in it ends the session like a lost one.
        let _task = AbortOnDropHandle::new(task);
        let end = end.await;
        *self.control.lock() = None;
        match end {
            Ok(ControlEnd::ClosedHere) => tracing::debug!("session closed"),
            Ok(end) => tracing::warn!("session lost: {end}"),
            Err(_) => tracing::warn!("session lost"),
        }
    }
}

/// How long a control has to end beyond the grace it was given.
const STOP_LIMIT: Duration = Duration::from_secs(2);

fn control_span(run_id: &str) -> tracing::Span {
    tracing::info_span!("control", run_id = %Short(run_id))
}

fn hostname() -> String {
    // frp sends an empty name too when the system has none.
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
