//! What is wrong with a client at a moment: gathered by [`observe`], and judged by the pure
//! [`judge`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use frp_core::config::{ProxyConfig, ProxyKind};
use tokio::task::JoinSet;

use super::watch::{Sight, Trouble};
use crate::client::Client;
use crate::local;
use crate::proxy::Proxy;
use crate::proxy::state::Phase;

/// What is seen of a client.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// For how long there has been no session.
    pub without_session: Option<Duration>,
    /// Logins that failed in a row, and what the last one said.
    pub login_failures: (u32, String),
    /// The task that finds ways to the server has answered.
    pub links_answer: bool,
    /// `connected`, `holding`, ...
    pub state: String,
    /// How long nothing has come over the carrier in use though it should have, or what was sent
    /// was not acknowledged.
    pub silence: Duration,
    /// Streams to the server that could not be opened, in a row.
    pub work_conn_failures: u32,
    /// The proxies.
    pub proxies: Vec<ProxyObserved>,
    /// Users since the last look, and those of them that the local service did not take.
    pub users: (u64, u64),
}

/// One proxy.
#[derive(Clone, Debug)]
pub struct ProxyObserved {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// What the server said when it refused.
    pub error: String,
    /// The local service has taken nobody lately, and does not answer now: why.
    pub local_error: Option<String>,
}

/// What an observer remembers from one look to the next.
#[derive(Debug, Default)]
pub struct Eyes {
    without_session_since: Option<Instant>,
    users: (u64, u64),
}

/// How long the task that finds ways to the server has to answer. It never waits for anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a local service has to answer when it is asked.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Local services that are asked at one look: only those that did not take a user. Those beyond
/// count as what they were.
const MAX_PROBES: usize = 32;

/// Silence, or a stall, that no path explains: the switch policy has left the carrier long before,
/// if there was another.
const STALLED: Duration = Duration::from_secs(15);

/// Streams that cannot be opened, in a row, while there is a session: one or two break with a carrier.
const WORK_CONN_FAILURES: u32 = 5;

/// Users between two looks from which on a share of them means something.
const MIN_USERS: u64 = 10;

/// Looks at `client`.
pub(crate) async fn observe(eyes: &mut Eyes, client: &Client) -> Observed {
    let now = Instant::now();
    let session = client.session();
    let without_session = match &session {
        Some(_) => {
            eyes.without_session_since = None;
            None
        }
        None => {
            let since = *eyes.without_session_since.get_or_insert(now);
            Some(now.saturating_duration_since(since))
        }
    };
    let links = tokio::time::timeout(ANSWER_TIMEOUT, client.links()).await;
    let silence = session.map_or(Duration::ZERO, |session| {
        let paths = session.paths();
        let mut live = paths.values().flat_map(|path| &path.live);
        let path = live.find(|carrier| carrier.is_in_use);
        path.and_then(|carrier| carrier.path)
            .map_or(Duration::ZERO, |report| {
                let silence = report.inbound_silence.max(report.outbound_silence);
                silence.max(report.stall)
            })
    });
    let (proxies, users) = look_at_proxies(client).await;
    // A new session counts from zero.
    let since_last = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
    let new_users = (
        since_last(users.0, eyes.users.0),
        since_last(users.1, eyes.users.1),
    );
    eyes.users = users;
    Observed {
        without_session,
        login_failures: client.health().login_failures(),
        links_answer: links.is_ok(),
        state: links.map_or_else(|_| String::new(), |links| links.state),
        silence,
        work_conn_failures: client.health().work_conn_failures(),
        proxies,
        users: new_users,
    }
}

async fn look_at_proxies(client: &Client) -> (Vec<ProxyObserved>, (u64, u64)) {
    let entries = client.look_at_proxies(|proxies| {
        let entries = proxies.entries();
        let entries =
            entries.map(|(proxy, state)| (proxy.clone(), state.phase(), state.error().to_owned()));
        entries.collect::<Vec<_>>()
    });
    let entries = entries.unwrap_or_default();
    let mut users = (0, 0);
    let mut asked = JoinSet::new();
    for (idx, (proxy, _, _)) in entries.iter().enumerate() {
        let (n_taken, n_failed) = proxy.users.counts();
        users.0 += n_taken + n_failed;
        users.1 += n_failed;
        let is_failing = proxy.users.n_failed_in_row() > 0 && is_dialled(&proxy.config);
        if is_failing && asked.len() < MAX_PROBES {
            let proxy = proxy.clone();
            asked.spawn(async move { (idx, ask(&proxy).await) });
        }
    }
    let mut errors = vec![None; entries.len()];
    while let Some(answer) = asked.join_next().await {
        if let Ok((idx, error)) = answer {
            errors[idx] = error;
        }
    }
    let proxies = entries.into_iter().zip(errors);
    let proxies = proxies.map(|((proxy, phase, error), local_error)| ProxyObserved {
        name: proxy.config.name.clone(),
        phase,
        error,
        local_error,
    });
    (proxies.collect(), users)
}

/// Asks a local service that has not taken a user. One that answers is forgiven.
async fn ask(proxy: &Arc<Proxy>) -> Option<String> {
    match probe(&proxy.config, PROBE_TIMEOUT).await {
        Ok(()) => {
            proxy.users.forgive();
            None
        }
        Err(error) => Some(error),
    }
}

/// Whether users of the proxy are connected to the local service one by one.
pub(crate) fn is_dialled(proxy: &ProxyConfig) -> bool {
    matches!(proxy.kind, ProxyKind::Tcp { .. } | ProxyKind::Stcp { .. })
}

/// Connects to the local service, and says nothing there.
pub(crate) async fn probe(proxy: &ProxyConfig, limit: Duration) -> Result<(), String> {
    let dial = local::dial(&proxy.local_ip, proxy.local_port);
    match tokio::time::timeout(limit, dial).await {
        Ok(Ok(_conn)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!(
            "the local service {}:{} does not answer",
            proxy.local_ip, proxy.local_port
        )),
    }
}

/// What of it is trouble. `interval` is the time between two looks.
pub fn judge(observed: &Observed, interval: Duration) -> Vec<Sight> {
    let mut sights = Vec::new();
    let mut add = |trouble, subject: &str, text: String| {
        sights.push(Sight {
            trouble,
            subject: subject.to_owned(),
            text,
        });
    };
    if !observed.links_answer {
        let text = "the part that finds ways to the server does not answer".to_owned();
        add(Trouble::Stall, "", text);
    }
    if let Some(without) = observed.without_session {
        // Less is a login that takes its time.
        if without + interval / 2 >= interval {
            let (n_failures, error) = &observed.login_failures;
            let why = match n_failures {
                0 => String::new(),
                _ => format!("; {n_failures} logins failed in a row, the last one: {error}"),
            };
            let seconds = without.as_secs();
            add(
                Trouble::Login,
                "",
                format!("no session with the server for {seconds} s{why}"),
            );
        }
        // Nothing else can be well then.
        return sights;
    }
    // While a session is held the way to the server is being looked for, and a step would only cost
    // users their connections.
    if observed.state != "holding" && observed.silence >= STALLED {
        let seconds = observed.silence.as_secs();
        let text = format!("nothing has moved on the connection to the server for {seconds} s");
        add(Trouble::Stall, "", text);
    }
    if observed.work_conn_failures >= WORK_CONN_FAILURES {
        let text = format!(
            "{} streams in a row could not be opened to the server",
            observed.work_conn_failures
        );
        add(Trouble::WorkConns, "", text);
    }
    for proxy in &observed.proxies {
        let name = proxy.name.as_str();
        match proxy.phase {
            Phase::StartError => {
                let text = format!("the server refuses proxy {name}: {}", proxy.error);
                add(Trouble::Proxy, name, text);
            }
            Phase::New | Phase::WaitStart => {
                let text = format!("the server does not answer about proxy {name}");
                add(Trouble::Proxy, name, text);
            }
            Phase::Running | Phase::Closed => {}
        }
        if let Some(error) = &proxy.local_error {
            add(Trouble::Local, name, format!("proxy {name}: {error}"));
        }
    }
    let (n_users, n_failed) = observed.users;
    if n_users >= MIN_USERS && n_failed * 2 >= n_users {
        let text = format!("{n_failed} of {n_users} users were not served since the last look");
        add(Trouble::Errors, "", text);
    }
    sights
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn well() -> Observed {
        Observed {
            links_answer: true,
            state: "connected".to_owned(),
            ..Observed::default()
        }
    }

    fn proxy(phase: Phase) -> ProxyObserved {
        ProxyObserved {
            name: "web".to_owned(),
            phase,
            error: "port already used".to_owned(),
            local_error: None,
        }
    }

    fn troubles(observed: &Observed) -> Vec<Trouble> {
        let sights = judge(observed, INTERVAL);
        sights.into_iter().map(|sight| sight.trouble).collect()
    }

    #[test]
    fn a_client_that_is_well_gives_nothing_to_do() {
        let observed = Observed {
            proxies: vec![proxy(Phase::Running)],
            users: (100, 3),
            silence: Duration::from_secs(2),
            work_conn_failures: 2,
            ..well()
        };
        assert_eq!(troubles(&observed), []);
    }

    #[test]
    fn a_login_that_takes_its_time_is_no_trouble_and_one_that_takes_longer_is() {
        let mut observed = Observed {
            without_session: Some(Duration::from_secs(3)),
            work_conn_failures: 100,
            ..well()
        };
        assert_eq!(troubles(&observed), []);
        observed.without_session = Some(INTERVAL);
        observed.login_failures = (4, "connection refused".to_owned());
        let sights = judge(&observed, INTERVAL);
        assert_eq!(sights.len(), 1, "the rest follows from it: {sights:?}");
        assert!(sights[0].text.contains("connection refused"), "{sights:?}");
    }

    #[test]
    fn a_session_that_is_held_is_left_alone() {
        let mut observed = Observed {
            silence: Duration::from_secs(40),
            ..well()
        };
        assert_eq!(troubles(&observed), [Trouble::Stall]);
        observed.state = "holding".to_owned();
        assert_eq!(troubles(&observed), []);
    }

    #[test]
    fn each_kind_of_trouble_is_seen() {
        let mut refused = proxy(Phase::StartError);
        refused.local_error = Some("connection refused".to_owned());
        let observed = Observed {
            work_conn_failures: WORK_CONN_FAILURES,
            proxies: vec![refused, proxy(Phase::WaitStart)],
            users: (10, 5),
            ..well()
        };
        let expected = [
            Trouble::WorkConns,
            Trouble::Proxy,
            Trouble::Local,
            Trouble::Proxy,
            Trouble::Errors,
        ];
        assert_eq!(troubles(&observed), expected);
        let hanging = Observed {
            links_answer: false,
            ..well()
        };
        assert_eq!(troubles(&hanging), [Trouble::Stall]);
    }
}
