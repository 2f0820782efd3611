//! The clients of one configuration file, one after the other: usually one. A step of recovery may
//! want a client that begins anew, and a start with a changed file that cannot log in goes back to
//! the last version that could.
//!
//! That version and the file take turns until one of them logs in, since it may be the network, or
//! the server, that is away: then neither logs in, and the file must not lose by that.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::config::{AlertLevel, ClientConfig, ClientTexts, resolve_token};
use frp_core::state::{self, StateDir};
use frp_core::web;
use frp_core::web::local::{self, LocalSocket};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::guard::{Next, Watching, guard};
use super::history::{History, Why};
use super::trial::Trial;
use super::{Applied, CONFIG_KEY, Given, OnTrial, Recovery, Stage, count_rollback, rest};
use crate::admin::{Admin, ConfigFile};
use crate::admin_client::PROGRAM;
use crate::client::Client;
use crate::clients::Clients;
use crate::links::memory::Memory;
use crate::supervision;
use crate::transport::Dialers;

/// What ends a service: the text that is printed.
pub(crate) type Failure = String;

/// What a program is started with.
#[derive(Debug)]
pub(crate) struct Started {
    /// What the file, or the command line, says.
    pub(crate) config: ClientConfig,
    /// The file, with its texts.
    pub(crate) file: Option<(ConfigFile, ClientTexts)>,
    /// The file cannot be used at all, for this reason, and `config` is of this version.
    pub(crate) in_place_of: Option<(u64, String)>,
}

/// The longest time that a version has to log in, while two take turns.
const MAX_PATIENCE: Duration = Duration::from_secs(600);

/// How long a client that is replaced has to take its leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Between two attempts to begin anew, where what that needs (a token's file, the web server's port)
/// is not to be had at the moment.
const BEGIN_WAIT: Duration = Duration::from_secs(10);

/// How an attempt has ended.
enum Ended {
    /// The program is to end.
    Stopped,
    /// It came to nothing.
    Failed(Failure),
    /// Another one is to follow.
    Next(Next),
}

/// Runs clients until the program is to end.
pub(crate) async fn run(started: Started, clients: &Clients) -> Result<(), Failure> {
    let Started {
        config,
        file,
        in_place_of,
    } = started;
    let dir = StateDir::open(config.state_dir.as_deref(), "frpc");
    let (file, texts) = match file {
        Some((file, texts)) => (Some(file), texts),
        None => (None, ClientTexts::default()),
    };
    let recovery = match &file {
        Some(file) => {
            let history = History::open(dir.clone(), &file.path);
            Recovery::new(&config, history, file.options.clone())
        }
        None => Recovery::without_file(&config),
    };
    let mut turns = match in_place_of {
        Some((number, reason)) => {
            let applied = Arc::new(Applied {
                number,
                config,
                texts,
            });
            recovery.settle(&applied, &format!("the file cannot be used: {reason}"));
            Turns::alone(applied)
        }
        None => {
            let strict = file.as_ref().is_none_or(|file| file.options.strict);
            let (first, other) = recovery.start(Given {
                config,
                texts,
                strict,
                why: Why::Start,
            });
            Turns::new(first, other, recovery.patience())
        }
    };
    let mut memories = Memories { dir, last: None };
    let mut watching = Watching::new(&recovery);
    loop {
        let has_lived = turns.has_lived;
        let mut config = turns.current().config.clone();
        // The program ends by itself when it has never logged in, and not later.
        config.login_fail_exit &= !has_lived;
        let place = Place {
            recovery: &recovery,
            clients,
            file: file.as_ref(),
        };
        // One for each client: large, and not worth a place in whoever waits for it.
        let attempt = Box::pin(place.attempt(config, &mut turns, &mut memories, &mut watching));
        match attempt.await {
            Ended::Stopped => return Ok(()),
            Ended::Failed(error) if turns.has_lived => {
                tracing::error!("cannot begin anew: {error}; trying again");
                tokio::time::sleep(BEGIN_WAIT).await;
            }
            Ended::Failed(error) => {
                turns.failed(error.clone())?;
                tracing::error!("{error}; the last configuration that worked has its turn");
            }
            Ended::Next(Next::NoLogin) => turns.handle_no_login(),
            // While two versions take turns, the one that has its turn goes on.
            Ended::Next(Next::Again) if turns.other.is_some() && !turns.has_lived => {}
            Ended::Next(Next::Again) => turns.settle(recovery.running()),
            Ended::Next(Next::Use(applied)) => {
                recovery.use_from_here(&applied);
                turns.settle(Some(applied));
            }
        }
    }
}

/// Whose turn it is to log in.
struct Turns {
    file: Arc<Applied>,
    other: Option<Arc<Applied>>,
    is_others: bool,
    patience: Option<Duration>,
    /// There has been a session.
    has_lived: bool,
    /// Why the file's version came to nothing.
    error: Option<Failure>,
}

impl Turns {
    fn new(file: Arc<Applied>, other: Option<Arc<Applied>>, patience: Option<Duration>) -> Self {
        Self {
            file,
            other: other.filter(|_| patience.is_some()),
            is_others: false,
            patience,
            has_lived: false,
            error: None,
        }
    }

    fn alone(applied: Arc<Applied>) -> Self {
        Self::new(applied, None, None)
    }

    fn current(&self) -> &Arc<Applied> {
        match (&self.other, self.is_others) {
            (Some(other), true) => other,
            _ => &self.file,
        }
    }

    fn stage(&self) -> Stage {
        match (self.is_others, self.other.is_some()) {
            (true, _) => Stage::Fallback,
            (false, has_other) => Stage::Start {
                has_fallback: has_other,
            },
        }
    }

    /// What came to nothing before there ever was a session ends the program, unless there is
    /// another version to try.
    fn failed(&mut self, error: Failure) -> Result<(), Failure> {
        if self.other.is_none() || self.is_others {
            return Err(self.error.take().unwrap_or(error));
        }
        self.error = Some(error);
        self.is_others = true;
        Ok(())
    }

    fn handle_no_login(&mut self) {
        if self.is_others {
            self.patience = self
                .patience
                .map(|patience| (patience * 2).min(MAX_PATIENCE));
            tracing::warn!(
                "configuration version {} cannot log in either: the file's has its turn again",
                self.current().number
            );
        } else {
            tracing::warn!(
                "configuration version {} cannot log in: the last one that could has its turn",
                self.current().number
            );
        }
        self.is_others = !self.is_others;
    }

    fn settle(&mut self, applied: Option<Arc<Applied>>) {
        if let Some(applied) = applied {
            self.file = applied;
        }
        self.other = None;
        self.is_others = false;
    }
}

/// What an attempt needs beside its configuration.
struct Place<'a> {
    recovery: &'a Arc<Recovery>,
    clients: &'a Clients,
    file: Option<&'a ConfigFile>,
}

impl Place<'_> {
    async fn attempt(
        &self,
        config: ClientConfig,
        turns: &mut Turns,
        memories: &mut Memories,
        watching: &mut Watching,
    ) -> Ended {
        let client = match self.begin(config, memories).await {
            Ok(client) => client,
            Err(error) => return Ended::Failed(error),
        };
        self.recovery.begin(&client, turns);
        self.clients.add(client.clone());
        let ended = self.serve(&client, watching).await;
        self.clients.remove(&client);
        turns.has_lived |= client.health().n_sessions() > 0;
        ended
    }

    async fn begin(
        &self,
        config: ClientConfig,
        memories: &mut Memories,
    ) -> Result<Arc<Client>, Failure> {
        let text = |error: &dyn Display| error.to_string();
        let auth = config.auth.clone();
        let token = tokio::task::spawn_blocking(move || resolve_token(&auth))
            .await
            .map_err(|error| text(&error))?
            .map_err(|error| text(&error))?;
        let dialers = Dialers::new(&config).map_err(|error| text(&error))?;
        let memory = memories.open(&config, self.file);
        Ok(Client::new(config, token, dialers, memory, instance()?))
    }

    /// Runs one client with its admin API, until either ends or the guard wants another one.
    async fn serve(&self, client: &Arc<Client>, watching: &mut Watching) -> Ended {
        let _ready = supervision::ready_when_settled(client);
        let web_server = client.web_server().clone();
        let recovery = self.recovery.clone();
        let admin = Admin::with_recovery(client.clone(), self.file.cloned(), &web_server, recovery);
        let serve_commands = async {
            match open_socket(client.config(), self.file) {
                Some(socket) => admin.clone().serve_locally(socket).await,
                None => std::future::pending().await,
            }
        };
        let serve_admin = async {
            if web_server.port == 0 {
                return std::future::pending().await;
            }
            let listener = match web::listen(&web_server).await {
                Ok(listener) => listener,
                Err(error) => return error.to_string(),
            };
            if let Ok(addr) = listener.local_addr() {
                tracing::info!("admin server listen on {addr}");
            }
            admin.clone().serve(listener).await;
            // It serves until it is dropped.
            std::future::pending().await
        };
        let mut running = std::pin::pin!(client.run());
        let next = tokio::select! {
            // An API that cannot be had ends the program before anything else happens.
            biased;
            error = serve_admin => return Ended::Failed(error),
            // It answers until it is dropped.
            () = serve_commands => return Ended::Stopped,
            result = &mut running => return match result {
                Ok(()) => Ended::Stopped,
                Err(error) => Ended::Failed(error.to_string()),
            },
            next = guard(self.recovery, client, watching) => next,
        };
        // It takes its leave in there, so it has to go on.
        let leaving = async { tokio::join!(client.stop(Duration::ZERO), running) };
        let _ = timeout(LEAVE_TIMEOUT, leaving).await;
        Ended::Next(next)
    }
}

/// The socket for commands of the same user, in the state directory. A frpc without a file has
/// none: nobody could say which is meant.
fn open_socket(config: &ClientConfig, file: Option<&ConfigFile>) -> Option<LocalSocket> {
    let dir = state::directory(config.state_dir.as_deref(), PROGRAM)?;
    let path = local::path(&dir, PROGRAM, Some(&file?.path));
    match LocalSocket::bind(&path) {
        Ok(socket) => {
            tracing::debug!("commands are answered on {}", socket.path().display());
            Some(socket)
        }
        Err(error) => {
            // Only commands miss it, and they say what they miss.
            tracing::debug!("no commands without a webServer: {error}");
            None
        }
    }
}

impl Recovery {
    /// A client begins, with whichever version has its turn.
    fn begin(&self, client: &Client, turns: &Turns) {
        let mut state = self.state.lock();
        if state.is_confirmed {
            return;
        }
        let required = state.fallback.as_ref().and_then(|fallback| {
            let version = self.history.version(fallback.number)?;
            Some(version.running)
        });
        let wanted = client.services();
        let required = required.unwrap_or_default().into_iter();
        let required = required.filter(|name| wanted.proxies.iter().any(|p| p.name == *name));
        let patience = turns.patience.filter(|_| self.patience().is_some());
        state.trial = patience.map(|patience| OnTrial {
            trial: Trial::start(Instant::now(), patience, required.collect()),
            n_sessions: client.health().n_sessions(),
            probed: Default::default(),
            stage: turns.stage(),
        });
    }

    /// A program that was started with a file that does not work has settled for this version.
    pub(super) fn settle(&self, applied: &Arc<Applied>, reason: &str) {
        let number = applied.number;
        let from = {
            let mut state = self.state.lock();
            let from = state.running.replace(applied.clone());
            state.is_confirmed = true;
            state.trial = None;
            state.fallback = None;
            state.applied_at = Some(Instant::now());
            state.restart_needed = false;
            from.filter(|from| from.number != number)
        };
        let text =
            format!("configuration version {number} runs in the place of the file: {reason}");
        tracing::error!("{text}; the file is left as it is");
        self.state.lock().note.clone_from(&text);
        if let Some(from) = from {
            self.history.change(from.number, |version| {
                version.taken_back = Some(reason.to_owned());
            });
        }
        count_rollback("start");
        self.raise(CONFIG_KEY, AlertLevel::Warning, &text);
    }

    /// The version that has its turn after one that could not log in has a session.
    pub(super) fn settle_on_fallback(&self) {
        let fallback = self.state.lock().fallback.clone();
        if let Some(fallback) = fallback {
            self.settle(&fallback, "what the file says could not log in");
        }
    }

    /// The version that runs.
    fn running(&self) -> Option<Arc<Applied>> {
        self.state.lock().running.clone()
    }

    /// A client begins anew with this version.
    fn use_from_here(&self, applied: &Arc<Applied>) {
        let mut state = self.state.lock();
        state.running = Some(applied.clone());
    }

    /// What the running client was started with, without services.
    pub(super) fn rest_of(&self, client: &Client) -> ClientConfig {
        let running = self.running();
        running.map_or_else(
            || (**client.config()).clone(),
            |running| rest(&running.config),
        )
    }
}

/// What is known of servers. It outlives a client: its file is locked, and what it knows has not
/// changed.
struct Memories {
    dir: StateDir,
    last: Option<([String; 4], Memory)>,
}

impl Memories {
    fn open(&mut self, config: &ClientConfig, file: Option<&ConfigFile>) -> Memory {
        let server = [
            config.server_addr.clone(),
            config.server_port.to_string(),
            config.user.clone(),
            config.client_id.clone(),
        ];
        if let Some((known, memory)) = &self.last
            && *known == server
        {
            return memory.clone();
        }
        let identity = identity(config, file);
        let memory = Memory::open(self.dir.clone(), config, &identity);
        self.last = Some((server, memory.clone()));
        memory
    }
}

/// Tells clients of one server and one state directory apart.
fn identity(config: &ClientConfig, file: Option<&ConfigFile>) -> String {
    match file {
        Some(file) => {
            let path = file.path.canonicalize();
            path.unwrap_or_else(|_| file.path.clone())
                .display()
                .to_string()
        }
        // A single service of the command line.
        None => {
            let proxies = config.proxies.iter().map(|proxy| proxy.name.as_str());
            let visitors = config.visitors.iter().map(|visitor| visitor.name.as_str());
            proxies.chain(visitors).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Tells this process from every other one, towards a Holdfast frps.
pub(crate) fn instance() -> Result<[u8; 16], Failure> {
    static INSTANCE: Mutex<Option<[u8; 16]>> = Mutex::new(None);
    let mut instance = INSTANCE.lock();
    if let Some(instance) = *instance {
        return Ok(instance);
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| error.to_string())?;
    *instance = Some(random);
    Ok(random)
}

/// The last version that worked of a file that cannot be used for this reason, if recovery may go
/// back to it.
pub(crate) fn in_the_place_of(file: &ConfigFile, reason: &str) -> Option<Started> {
    let dir = StateDir::existing(state_dir_in(&file.path).as_deref(), "frpc")?;
    let history = History::open(dir, &file.path);
    let version = history.last_working()?;
    let kept = history.get(version.number)?;
    let options = version.options(&file.options);
    let loaded = frp_core::config::load_client_from_texts(&kept.texts, &options).ok()?;
    let settings = &loaded.config.recovery;
    let is_wanted = settings.rollback_at_start && settings.confirm.is_some();
    is_wanted.then(|| Started {
        config: loaded.config,
        file: Some((file.clone(), kept.texts)),
        in_place_of: Some((version.number, reason.to_owned())),
    })
}

/// What a file that cannot be read as a whole says of `stateDir`, in whichever format.
pub(crate) fn state_dir_in(path: &Path) -> Option<PathBuf> {
    /// Where the key is, if it is there: it belongs to the upper part.
    const MAX_LEN: usize = 256 * 1024;
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_LEN)]).into_owned();
    let line = text.lines().find_map(|line| {
        let line = line.trim_start().trim_start_matches('"');
        line.strip_prefix("stateDir")
    })?;
    let value = line.trim_start_matches('"').trim_start();
    let value = value.strip_prefix(['=', ':'])?.trim();
    let value = value.trim_end_matches(',').trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| PathBuf::from(value))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn applied(number: u64) -> Arc<Applied> {
        Arc::new(Applied {
            number,
            config: ClientConfig::default(),
            texts: ClientTexts::default(),
        })
    }

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

    #[test]
    fn two_versions_take_turns_and_have_more_time_each_round() {
        let mut turns = Turns::new(applied(2), Some(applied(1)), PATIENCE);
        let mut numbers = Vec::new();
        for _ in 0..5 {
            numbers.push((turns.current().number, turns.patience.unwrap().as_secs()));
            turns.handle_no_login();
        }
        assert_eq!(numbers, [(2, 30), (1, 30), (2, 60), (1, 60), (2, 120)]);
    }

    #[test]
    fn the_program_ends_with_the_files_error_when_neither_can_be_used() {
        let mut turns = Turns::new(applied(2), Some(applied(1)), PATIENCE);
        assert_eq!(turns.failed("the file's".to_owned()), Ok(()));
        assert_eq!(turns.current().number, 1);
        let ended = turns.failed("the other's".to_owned());
        assert_eq!(ended, Err("the file's".to_owned()));

        let mut alone = Turns::new(applied(2), None, PATIENCE);
        assert_eq!(alone.failed("no".to_owned()), Err("no".to_owned()));
    }

    #[test]
    fn where_nothing_is_judged_nothing_is_gone_back_to() {
        let mut turns = Turns::new(applied(2), Some(applied(1)), None);
        assert!(turns.failed("no".to_owned()).is_err());
    }

    #[test]
    fn the_state_directory_is_found_in_a_broken_file_of_any_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("frpc");
        for text in [
            "user = [\nstateDir = \"/var/x\"\n",
            "a: b: c\nstateDir: /var/x\n",
            "{\n  \"stateDir\": \"/var/x\",\n",
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(state_dir_in(&path), Some(PathBuf::from("/var/x")), "{text}");
        }
        std::fs::write(&path, "serverPort = 1").unwrap();
        assert_eq!(state_dir_in(&path), None);
    }
}
