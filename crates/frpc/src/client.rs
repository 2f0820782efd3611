//! The program's life: log in, work until the session is lost, log in again.
//!
//! A [`Client`] holds what outlives sessions: the configuration, what is known of the server, the
//! services that the last reload asked for. One session at a time is run by a control; what the
//! admin API asks reaches it through its handle.
//!
//! Where there is one transport and the server is plain frp, the client logs in as frp does. Where
//! there is a choice, or the server holds connections, [`crate::links`] finds the way.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use frp_core::config::{ClientConfig, Protocol, ProxyConfig, Secret, WebServerConfig};
use frp_core::hold::CarrierId;
use frp_core::proto::ids::Short;
use frp_core::proto::policy;
use frp_core::service_manager;
use frp_core::session::Session;
use frp_core::task;
use frp_core::transports::{Endpoint, TransportKind};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use crate::context::{Context, hostname};
use crate::control::{Control, ControlEnd, ControlHandle, Services};
use crate::links::memory::Memory;
use crate::links::{Begun, Links, LinksHandle, LinksStatus, Opened, SwitchError, may_hold};
use crate::login::{LoggedIn, LoginError, Over, login};
use crate::proxy::state::ProxyState;
use crate::proxy::{ProxyNumbers, ProxySet};
use crate::recovery::health::Health;
use crate::retry::{Backoff, FIRST_LOGIN_CAP, RELOGIN_CAP, Reconnect};
use crate::status::ProxyStatus;
use crate::status::standing::Standing;
use crate::transport::{Addresses, Dialers, needs_goodbye};

/// One frpc: a server, and what is published and visited there.
#[derive(Debug)]
pub struct Client {
    context: Arc<Context>,
    dialers: Dialers,
    memory: Memory,
    services: Mutex<Arc<Services>>,
    control: Mutex<Option<ControlHandle>>,
    /// That of the control, for the metrics.
    session: Mutex<Weak<Session>>,
    /// While the policy chooses the way to the server.
    links: Mutex<Option<LinksHandle>>,
    /// The server has been a Holdfast before: said once.
    has_met_holdfast: AtomicBool,
    /// It has logged in once, or may take as long as it likes.
    settled: CancellationToken,
    /// Whether there is a session, for `frpc status`.
    standing: Standing,
    stopped: CancellationToken,
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
    /// A client of the server that `dialers` lead to. `token` is the resolved one, `memory` what is
    /// known of the server, `instance` is random and the same for all clients of this process.
    pub fn new(
        mut config: ClientConfig,
        token: Secret,
        dialers: Dialers,
        memory: Memory,
        instance: [u8; 16],
    ) -> Arc<Self> {
        let services = Services {
            proxies: std::mem::take(&mut config.proxies),
            visitors: std::mem::take(&mut config.visitors),
        };
        let context = Arc::new(Context {
            config: Arc::new(config),
            token,
            hostname: hostname(),
            instance,
            // A process that was started anew within a second must not repeat the login before.
            last_login: AtomicI64::new(memory.logged_in_at()),
            health: Health::default(),
        });
        Arc::new(Self {
            context,
            dialers,
            memory,
            services: Mutex::new(Arc::new(services)),
            control: Mutex::new(None),
            session: Mutex::default(),
            links: Mutex::new(None),
            has_met_holdfast: AtomicBool::new(false),
            settled: CancellationToken::new(),
            standing: Standing::default(),
            stopped: CancellationToken::new(),
        })
    }

    /// Works until [`Client::stop`] is called, or the first login fails and `loginFailExit` says
    /// that this is the end.
    pub async fn run(&self) -> Result<(), ClientError> {
        if !self.context.config.login_fail_exit {
            self.settled.cancel();
        }
        tokio::select! {
            result = self.work() => result,
            () = self.stopped.cancelled() => Ok(()),
        }
    }

    /// Waits until it can be said to have started: it has logged in once, or `loginFailExit` is
    /// off and it goes on trying for as long as it takes.
    pub(crate) async fn settled(&self) {
        self.settled.cancelled().await;
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

    /// Says whether frps has to be told when the program ends, and so the end takes a moment.
    pub(crate) fn needs_goodbye(&self) -> bool {
        let transport = &self.context.config.transport;
        let mut kinds = transport.protocol.pinned().into_iter().chain(
            // One of these may be in use.
            transport.auto.fallback.iter().copied(),
        );
        transport.protocol.pinned().is_none() || kinds.any(needs_goodbye)
    }

    /// Goes over to this transport, or (without one) lets the policy decide again.
    pub async fn switch(&self, name: &str) -> Result<(), SwitchError> {
        let to = match name {
            "auto" => None,
            name => {
                let to = policy::Transport::from_name(name);
                Some(to.ok_or_else(|| SwitchError::Unknown(name.to_owned()))?)
            }
        };
        let links = self.links.lock().clone();
        match links {
            Some(links) => links.switch(to).await,
            None => Err(SwitchError::Nothing(PLAIN)),
        }
    }

    /// The carriers to the server, and what was decided about them.
    pub async fn links(&self) -> LinksStatus {
        let links = self.links.lock().clone();
        let status = match links {
            Some(links) => links.status().await,
            None => None,
        };
        status.unwrap_or_else(|| LinksStatus {
            state: "plain".to_owned(),
            note: PLAIN.to_owned(),
            ..LinksStatus::default()
        })
    }

    /// Publishes and visits `services` from here on. What is equal is left alone. Without a
    /// session they are kept for the next one.
    pub async fn update(&self, services: Services) {
        let services = Arc::new(services);
        *self.services.lock() = services.clone();
        let control = self.control.lock().clone();
        if let Some(control) = control {
            service_manager::reloading().await;
            control.update(services).await;
            service_manager::ready().await;
        }
    }

    /// Every proxy of the live session and where it stands, by name. Empty without a session.
    pub fn status(&self) -> Vec<ProxyStatus> {
        let server_addr = &self.context.config.server_addr;
        self.view_proxies(|config, state| ProxyStatus::new(config, state, server_addr))
    }

    /// What `view` makes of every proxy of the live session, by name. Empty without a session.
    pub(crate) fn view_proxies<T>(&self, view: impl Fn(&ProxyConfig, &ProxyState) -> T) -> Vec<T> {
        let control = self.control.lock().clone();
        control.map_or_else(Vec::new, |control| {
            let proxies = control.proxies.lock();
            proxies
                .iter()
                .map(|(config, state)| view(config, state))
                .collect()
        })
    }

    /// Whether there is a session, and since when.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The live session.
    pub(crate) fn session(&self) -> Option<Arc<Session>> {
        self.session.lock().upgrade()
    }

    /// The configuration, apart from the services.
    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.context.config
    }

    /// Where its admin API is to be had.
    pub(crate) fn web_server(&self) -> &WebServerConfig {
        &self.context.config.web_server
    }

    /// Every proxy of the live session with its numbers, by name. Empty without a session.
    pub(crate) fn proxies(&self) -> Vec<ProxyNumbers> {
        let control = self.control.lock().clone();
        control.map_or_else(Vec::new, |control| control.proxies.lock().numbers())
    }

    /// How well it goes.
    pub(crate) fn health(&self) -> &Health {
        &self.context.health
    }

    /// What is published and visited, or will be.
    pub(crate) fn services(&self) -> Arc<Services> {
        self.services.lock().clone()
    }

    /// Runs `look` on the proxies of the live session. `None` without one.
    pub(crate) fn look_at_proxies<T>(&self, look: impl FnOnce(&ProxySet) -> T) -> Option<T> {
        let control = self.control.lock().clone();
        control.map(|control| look(&control.proxies.lock()))
    }

    /// Tries at once what would be tried later: proxies that frps has refused, or a login.
    pub(crate) async fn retry(&self) {
        let control = self.control.lock().clone();
        if let Some(control) = control {
            return control.retry().await;
        }
        let links = self.links.lock().clone();
        if let Some(links) = links {
            links.next(Duration::ZERO).await;
        }
    }

    /// Ends the session; the next one begins right after. Users' connections end with it.
    pub(crate) async fn log_in_again(&self) {
        let control = self.control.lock().clone();
        if let Some(control) = control {
            let _ = tokio::time::timeout(STOP_LIMIT, control.close(Duration::ZERO)).await;
        }
    }

    async fn work(&self) -> Result<(), ClientError> {
        let mut reconnect = Reconnect::new();
        let mut is_first = true;
        let mut links = self.has_choice().then(|| self.start_links(None));
        let mut successor = None;
        loop {
            let span = control_span(&self.memory.run_id());
            let Begun { session, logged_in } = match (successor.take(), &mut links) {
                (Some(begun), _) => begun,
                (None, Some(found)) => match found.next().await {
                    Some(begun) => begun.map_err(ClientError::FirstLogin)?,
                    None => {
                        links = Some(self.start_links(None));
                        continue;
                    }
                },
                (None, None) => {
                    let opened = self.log_in(is_first).instrument(span).await;
                    let opened = opened.map_err(ClientError::FirstLogin)?;
                    if opened.logged_in.held.is_some() {
                        links = Some(self.start_links(Some(opened)));
                        continue;
                    }
                    self.remember(&opened.logged_in);
                    Begun {
                        session: Arc::new(opened.session),
                        logged_in: opened.logged_in,
                    }
                }
            };
            is_first = false;
            let is_held = logged_in.held.is_some();
            let span = control_span(&logged_in.run_id);
            let began = Instant::now();
            let running = self.run_session(session, logged_in, links.as_mut());
            successor = running.instrument(span).await;
            if self.stopped.is_cancelled() {
                return Ok(());
            }
            if successor.is_some() {
                continue;
            }
            let wait = reconnect.handle_loss(Instant::now(), rand::random());
            if !is_held && !self.has_alternatives() {
                // A server that holds nothing, over the one transport that there is: as in frp.
                *self.links.lock() = None;
                links = None;
                tokio::time::sleep(wait).await;
            } else if let Some(links) = &links {
                // A session that has lived may be followed at once by the next. One that ends as
                // soon as it has begun may not.
                let is_short = began.elapsed() < SHORT_LIFE;
                let wait = if is_short { wait } else { Duration::ZERO };
                links.handle().next(wait).await;
            }
        }
    }

    /// Whether the policy chooses from the start: there is more than one way, or the server is
    /// known to hold what it is given.
    fn has_choice(&self) -> bool {
        let config = &self.context.config;
        let pinned = config.transport.protocol.pinned();
        self.has_alternatives()
            || self.memory.is_holdfast() && pinned.is_some_and(|kind| may_hold(config, kind))
    }

    fn has_alternatives(&self) -> bool {
        let transport = &self.context.config.transport;
        transport.protocol == Protocol::Auto || !transport.auto.fallback.is_empty()
    }

    fn start_links(&self, opened: Option<Opened>) -> Links {
        let context = self.context.clone();
        let links = Links::start(context, self.dialers.clone(), self.memory.clone(), opened);
        *self.links.lock() = Some(links.handle().clone());
        links
    }

    fn remember(&self, logged_in: &LoggedIn) {
        self.memory
            .set_session(&logged_in.run_id, None, logged_in.endpoints());
    }

    /// Tries until it works. Fails only at the first login, and only with `loginFailExit`.
    async fn log_in(&self, is_first: bool) -> Result<Opened, LoginError> {
        let mut backoff = Backoff::new(if is_first {
            FIRST_LOGIN_CAP
        } else {
            RELOGIN_CAP
        });
        loop {
            tracing::info!("try to connect to server...");
            match self.try_log_in().await {
                Ok(session) => return Ok(session),
                Err(error) => {
                    tracing::warn!("connect to server error: {error}");
                    self.context.health.login_failed(&error);
                    self.standing.failed(&error);
                    if is_first && self.context.config.login_fail_exit {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(backoff.next_wait(rand::random())).await;
        }
    }

    /// One attempt by the one transport that there is.
    async fn try_log_in(&self) -> Result<Opened, LoginError> {
        let config = &self.context.config;
        // Only a pinned transport comes here.
        let kind = config.transport.protocol.pinned();
        let kind = kind.unwrap_or(TransportKind::Tcp);
        let Some(transport) = self.dialers.get(kind, Addresses::All) else {
            return Err(LoginError::NoTransport(kind));
        };
        let server = Endpoint {
            host: config.server_addr.clone(),
            port: config.server_port,
        };
        let carrier = transport.dial(&server).await?;
        let session = Session::over(transport, server, carrier.clone());
        let over = Over {
            carrier: carrier.clone(),
            id: FIRST_CARRIER,
            kind,
            run_id: self.memory.run_id(),
            previous: self.memory.previous(),
            is_known_holdfast: self.memory.is_holdfast(),
        };
        match login(&self.context, &session, &over).await {
            Ok(logged_in) => {
                if logged_in.welcome.is_some() {
                    carrier.handle_holdfast_peer();
                }
                Ok(Opened {
                    carrier,
                    session,
                    logged_in,
                })
            }
            Err(error) => {
                carrier.close();
                Err(error)
            }
        }
    }

    /// Returns when the session is over, or when the next one has taken its place at the server:
    /// then with that.
    async fn run_session(
        &self,
        session: Arc<Session>,
        logged_in: LoggedIn,
        links: Option<&mut Links>,
    ) -> Option<Begun> {
        tracing::info!(
            "login to server success, get run id [{}]",
            Short(&logged_in.run_id)
        );
        if let Some(welcome) = &logged_in.welcome
            && !self.has_met_holdfast.swap(true, Ordering::Relaxed)
        {
            tracing::info!(
                "the server is a Holdfast, extension version {}; connections are {}",
                welcome.version,
                match &logged_in.held {
                    Some(_) => "held",
                    None => "not held",
                }
            );
        }
        self.context.health.logged_in();
        self.standing.begin(logged_in.welcome.is_some());
        let (control, handle) = Control::new(self.context.clone(), session.clone(), logged_in);
        // The handle first, then the services: a reload in between reaches the control one way
        // or the other.
        *self.session.lock() = Arc::downgrade(&session);
        self.settled.cancel();
        *self.control.lock() = Some(handle.clone());
        let services = self.services.lock().clone();
        let (ended, mut end) = oneshot::channel();
        let task = task::spawn("control", async move {
            // Nobody waits for a control whose client has been stopped.
            let _ = ended.send(control.run(&services).await);
        });
        // A panic in it ends the session like a lost one.
        let _task = AbortOnDropHandle::new(task);
        let (end, successor) = tokio::select! {
            // An end that is there counts before a successor: it has closed what there was.
            biased;
            end = &mut end => (end, None),
            begun = successor(links) => {
                handle.leave().await;
                (end.await, Some(begun))
            }
        };
        *self.control.lock() = None;
        *self.session.lock() = Weak::new();
        self.standing.end();
        match end {
            Ok(ControlEnd::ClosedHere) => tracing::debug!("session closed"),
            Ok(end) => tracing::warn!("session lost: {end}"),
            Err(_) => {
                tracing::warn!("session lost");
                // It has panicked and closed nothing.
                session.close().await;
            }
        }
        successor
    }
}

/// The session that takes the place of the one that runs, for as long as it takes to come.
async fn successor(links: Option<&mut Links>) -> Begun {
    let begun = match links {
        Some(links) => links.next().await,
        None => None,
    };
    match begun {
        Some(Ok(begun)) => begun,
        // Whoever asks next, after this session, is told the same.
        _ => std::future::pending().await,
    }
}

/// The number of a carrier that was dialled without a policy: the policy's first.
const FIRST_CARRIER: CarrierId = CarrierId(1);

/// A session that ends sooner counts as one that did not get anywhere.
const SHORT_LIFE: Duration = Duration::from_secs(10);

/// What there is to say without a policy.
const PLAIN: &str = "the session goes over the one transport that is configured";

/// How long a control has to end beyond the grace it was given.
const STOP_LIMIT: Duration = Duration::from_secs(2);

fn control_span(run_id: &str) -> tracing::Span {
    tracing::info_span!("control", run_id = %Short(run_id))
}
