//! What a login creates: one client, its work streams, and the carrier that they come over.
//!
//! A [`Session`] is shared by everyone who has to do with the client. It is *pending* until its
//! login has been answered, then *running*, and it ends once, for the first [`EndCause`] given. It
//! is *finished* when everything it had (proxies, ports, idle work streams) has been given back.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use frp_core::conn::MessageStream;
use frp_core::hold::CarrierId;
use frp_core::proto::WireVersion;
use frp_core::proto::ids::Short;
use frp_core::proto::msg::Login;
use frp_core::relay::HalfClose;
use frp_core::transports::Carrier;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use crate::displacement::Stamp;
use crate::held::Held;
use crate::link::Link;
use crate::work_pool::{TakeError, WorkPool};

/// One client's session.
pub(crate) struct Session {
    /// Unique within the process; the session that takes a run id over has a higher one.
    pub(crate) id: u64,
    /// Names the session on the wire.
    pub(crate) run_id: String,
    /// What the client said of itself.
    pub(crate) login: Login,
    /// How the client is called: by its client id, or a name given to it.
    pub(crate) client_id: String,
    /// For log lines about the session.
    pub(crate) span: Span,
    /// The version of the control stream, which payload messages have as well.
    pub(crate) wire: WireVersion,
    /// Where the login came from. Without held streams it is where the control stream runs, and
    /// with multiplexing every other stream of the client.
    pub(crate) link: Arc<Link>,
    /// How many work streams the client keeps open ahead.
    pub(crate) pool_count: usize,
    /// These work streams, and the users that wait for one.
    pub(crate) work_streams: WorkPool<MessageStream>,
    /// What its streams are held by, if they are. Set before the login is answered.
    held: OnceLock<Arc<Held>>,
    life: Life,
    is_running: AtomicBool,
    end_cause: OnceLock<EndCause>,
    ended: CancellationToken,
    finished: CancellationToken,
}

impl Session {
    /// A pending session.
    pub(crate) fn new(beginning: Beginning) -> Arc<Self> {
        let Beginning {
            id,
            run_id,
            login,
            client_id,
            wire,
            link,
            max_pool_count,
            span,
        } = beginning;
        let pool_count = login.pool_count_clamped(max_pool_count);
        Arc::new(Self {
            id,
            run_id,
            login,
            client_id,
            span,
            wire,
            link,
            pool_count,
            work_streams: WorkPool::new(pool_count),
            held: OnceLock::new(),
            life: Life::new(),
            is_running: AtomicBool::new(false),
            end_cause: OnceLock::new(),
            ended: CancellationToken::new(),
            finished: CancellationToken::new(),
        })
    }

    /// Ends the session. Only the first cause counts.
    pub(crate) fn end(&self, cause: EndCause) {
        if self.end_cause.set(cause).is_ok() {
            self.ended.cancel();
        }
    }

    /// Waits until the session is to end.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Why it ended, once it has.
    pub(crate) fn end_cause(&self) -> Option<&EndCause> {
        self.end_cause.get()
    }

    /// Its login is answered. Called by the registry alone.
    pub(crate) fn set_running(&self) {
        self.is_running.store(true, Ordering::Release);
    }

    /// Whether its login is answered and it has not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running.load(Ordering::Acquire) && !self.ended.is_cancelled()
    }

    /// Everything it had has been given back.
    pub(crate) fn finish(&self) {
        self.finished.cancel();
    }

    /// Waits for [`Session::finish`].
    pub(crate) async fn finished(&self) {
        self.finished.cancelled().await;
    }

    /// Its streams are held from the login's answer on.
    pub(crate) fn hold(&self, held: Arc<Held>) {
        // A session logs in once; a second call could only repeat the first.
        let _ = self.held.set(held);
    }

    /// What its streams are held by, if they are.
    pub(crate) fn held(&self) -> Option<&Arc<Held>> {
        self.held.get()
    }

    /// The carrier in use: that of the login where streams are not held. `None` while there is
    /// none.
    pub(crate) fn carrier_in_use(&self) -> Option<Arc<dyn Carrier>> {
        match self.held() {
            None => Some(Arc::clone(&self.link.carrier)),
            Some(held) => held.carrier_in_use().map(|(_, carrier)| carrier),
        }
    }

    /// Hands out a work stream. A user who comes while the client is away waits for its return:
    /// both take `timeout` together.
    pub(crate) async fn take_work_stream(
        &self,
        timeout: Duration,
    ) -> Result<MessageStream, TakeError> {
        let began = Instant::now();
        if let Some(held) = self.held()
            && held.is_holding()
        {
            let _place = self.work_streams.queue_up()?;
            tokio::time::timeout(timeout, held.reachable())
                .await
                .map_err(|_| TakeError::Away)?;
        }
        let left = timeout.saturating_sub(began.elapsed());
        self.work_streams.take(left).await
    }

    /// Notes a sign of life of the client.
    pub(crate) fn touch(&self) {
        self.life.touch();
    }

    /// What becomes of a connection of which one side has ended: a Holdfast carries the other
    /// direction to its own end, frp ends both.
    pub(crate) fn half_close(&self) -> HalfClose {
        match self.login.holdfast.get() {
            Some(_) => HalfClose::Keep,
            None => HalfClose::EndBoth,
        }
    }

    /// When the login was made, as it says.
    pub(crate) fn stamp(&self) -> Stamp<'_> {
        Stamp {
            timestamp: self.login.timestamp,
            privilege_key: &self.login.privilege_key,
        }
    }

    /// Whether the client showed life lately.
    pub(crate) fn was_alive_lately(&self) -> bool {
        self.life.silence() < ALIVE_FOR
    }

    /// Asks the client for a sign of life, and waits a moment for it.
    ///
    /// The question is a `ReqWorkConn`, which any frpc answers within a round trip; a work stream
    /// too many does no harm.
    pub(crate) async fn proves_alive(&self) -> bool {
        let (n_signs, heard) = (self.life.n_signs(), self.heard());
        self.work_streams.request(1);
        let deadline = Instant::now() + PROOF_TIMEOUT;
        while Instant::now() < deadline {
            let now = self.heard();
            // A carrier that has gone is no sign; another one in its place is.
            if self.life.n_signs() != n_signs || (now.is_some() && now != heard) {
                return true;
            }
            tokio::select! {
                () = self.ended() => return false,
                () = tokio::time::sleep(PROOF_POLL) => {}
            }
        }
        false
    }

    /// The carrier in use, and how many bytes have come over it.
    fn heard(&self) -> Option<(CarrierId, u64)> {
        let (id, carrier) = match self.held() {
            None => (self.link.id, Arc::clone(&self.link.carrier)),
            Some(held) => held.carrier_in_use()?,
        };
        Some((id, carrier.path_stats().bytes_received))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("run_id", &Short(&self.run_id))
            .field("wire", &self.wire)
            .field("end_cause", &self.end_cause.get())
            .finish_non_exhaustive()
    }
}

/// What a session begins with. See [`Session`] for the fields.
pub(crate) struct Beginning {
    pub(crate) id: u64,
    pub(crate) run_id: String,
    pub(crate) login: Login,
    pub(crate) client_id: String,
    pub(crate) wire: WireVersion,
    pub(crate) link: Arc<Link>,
    /// The most that the client's pool count counts for.
    pub(crate) max_pool_count: usize,
    pub(crate) span: Span,
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndCause {
    /// The client closed its control stream, or its carrier is gone.
    #[error("closed by the client")]
    Closed,
    /// The control stream broke: most clients that are stopped leave like this.
    #[error("control connection lost: {0}")]
    Lost(String),
    /// The client sent what is no message.
    #[error("the client sent what is no message: {0}")]
    Nonsense(String),
    /// No heartbeat came in time. The text is frp's.
    #[error("heartbeat timeout")]
    HeartbeatTimeout,
    /// The client does not read its control stream.
    #[error("the client does not read its messages")]
    NotReading,
    /// The client has logged in again with the same run id.
    #[error("replaced by client [{run_id}] (control ID {id})")]
    Replaced {
        /// The first characters of the run id.
        run_id: String,
        /// The newer session's number.
        id: u64,
    },
    /// Another process of the same client has logged in, and has proven that it is that client.
    #[error("taken over by the client's next process")]
    TakenOver,
    /// What the client has is wanted by another login of its user, and it gave no sign of life.
    #[error("the client is silent, and another one of its user wants its proxies")]
    Silent,
    /// No carrier came within the grace time.
    #[error("the client did not come back within the grace time")]
    GraceExpired,
    /// The login could not be completed.
    #[error("login not completed")]
    LoginFailed,
    /// The server stops.
    #[error("the server stops")]
    Shutdown,
}

/// Signs of life of a client.
#[derive(Debug)]
struct Life {
    began: Instant,
    last_ms: AtomicU64,
    n_signs: AtomicU64,
}

impl Life {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            last_ms: AtomicU64::new(0),
            n_signs: AtomicU64::new(0),
        }
    }

    fn touch(&self) {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
        self.n_signs.fetch_add(1, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }

    fn n_signs(&self) -> u64 {
        self.n_signs.load(Ordering::Relaxed)
    }
}

/// A session that showed life within this time is not displaced by a login that could be a
/// recording. Longer than a Go client's second between two attempts, short enough for a client that
/// comes back after a crash.
const ALIVE_FOR: Duration = Duration::from_secs(3);

/// How long a client has to prove that it is alive: three round trips of a bad link, and the time
/// in which TCP repeats a lost segment.
const PROOF_TIMEOUT: Duration = Duration::from_millis(1300);

/// How often the proof is looked for.
const PROOF_POLL: Duration = Duration::from_millis(20);
