//! Who is or was connected: the list that the API shows, and the rule that a client id is online
//! once.
//!
//! A client is known by its user and client id. One without a client id is given one for as long as
//! it is online, and forgotten when it leaves; one with a client id stays in the list as offline.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use frp_core::proto::ids::Short;
use parking_lot::Mutex;

/// The clients of one server.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_key: Mutex<BTreeMap<String, ClientInfo>>,
    /// Makes names out of run ids from which nobody can tell the run id.
    names: RandomState,
}

/// One client as the API shows it.
#[derive(Clone, Debug)]
pub(crate) struct ClientInfo {
    /// `user.clientID`, or the one of the two that there is.
    pub(crate) key: String,
    /// The login's user.
    pub(crate) user: String,
    /// The login's client id, or the one that it was given.
    pub(crate) client_id: String,
    /// Whether the client id is the login's.
    has_own_id: bool,
    /// Its session's run id; empty when offline. Not to be shown whole.
    pub(crate) run_id: String,
    /// Number of the session that this entry speaks of.
    pub(crate) session_id: u64,
    /// What the client says its host is called.
    pub(crate) hostname: String,
    /// What the client says its version is.
    pub(crate) version: String,
    /// `v1` or `v2`.
    pub(crate) wire: &'static str,
    /// Where it connects from.
    pub(crate) ip: Option<IpAddr>,
    /// When it came first.
    pub(crate) first_connected: DateTime<Utc>,
    /// When it came last.
    pub(crate) last_connected: DateTime<Utc>,
    /// When it left; `None` while it is online.
    pub(crate) disconnected: Option<DateTime<Utc>>,
}

impl ClientInfo {
    /// Whether it has a session.
    pub(crate) fn online(&self) -> bool {
        self.disconnected.is_none()
    }

    /// Bytes of text that the client chose.
    fn text_len(&self) -> usize {
        self.key.len()
            + self.user.len()
            + self.client_id.len()
            + self.hostname.len()
            + self.version.len()
    }

    /// As much of the run id as may be shown; empty when offline.
    pub(crate) fn short_run_id(&self) -> String {
        Short(&self.run_id).to_string()
    }
}

/// What a login says about its client.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<'a> {
    /// See [`ClientInfo`] for these.
    pub(crate) user: &'a str,
    /// The login's, or what [`Clients::name_for`] gives.
    pub(crate) client_id: &'a str,
    /// Whether it is the login's.
    pub(crate) has_own_id: bool,
    /// Never empty.
    pub(crate) run_id: &'a str,
    /// Number of the new session.
    pub(crate) session_id: u64,
    /// As the client says.
    pub(crate) hostname: &'a str,
    /// As the client says.
    pub(crate) version: &'a str,
    /// `v1` or `v2`.
    pub(crate) wire: &'static str,
    /// Where it connects from.
    pub(crate) ip: Option<IpAddr>,
}

impl Clients {
    /// What a client without a client id is called: the start of its run id, which alone could be
    /// another's as well, and what tells the two apart. The whole run id would let whoever sees
    /// the list take the client's place.
    pub(crate) fn name_for(&self, run_id: &str) -> String {
        let hash = self.names.hash_one(run_id).to_be_bytes();
        let tail = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        format!("{}-{tail:08x}", Short(run_id))
    }

    /// Lists a client as online, unless its client id is online in another session.
    pub(crate) fn arrive(&self, arrival: &Arrival<'_>) -> Result<(), ClientIdTaken> {
        let key = key_of(arrival.user, arrival.client_id);
        let now = Utc::now();
        let mut clients = self.by_key.lock();
        if arrival.has_own_id
            && let Some(present) = clients.get(&key)
            && present.online()
            && present.run_id != arrival.run_id
        {
            return Err(ClientIdTaken {
                client_id: arrival.client_id.to_owned(),
                user: arrival.user.to_owned(),
            });
        }
        // A session that comes back under another name leaves the old one.
        let renamed: Vec<String> = clients
            .values()
            .filter(|c| c.online() && c.run_id == arrival.run_id && c.key != key)
            .map(|c| c.key.clone())
            .collect();
        for old_key in renamed {
            leave(&mut clients, &old_key, now);
        }
        let first_connected = clients.get(&key).map_or(now, |c| c.first_connected);
        let info = ClientInfo {
            key: key.clone(),
            user: arrival.user.to_owned(),
            client_id: arrival.client_id.to_owned(),
            has_own_id: arrival.has_own_id,
            run_id: arrival.run_id.to_owned(),
            session_id: arrival.session_id,
            hostname: arrival.hostname.to_owned(),
            version: arrival.version.to_owned(),
            wire: arrival.wire,
            ip: arrival.ip,
            first_connected,
            last_connected: now,
            disconnected: None,
        };
        clients.insert(key, info);
        bound_offline(&mut clients);
        Ok(())
    }

    /// Notes that a session has ended. Does nothing when a newer one has taken its place.
    pub(crate) fn depart(&self, session_id: u64) {
        let mut clients = self.by_key.lock();
        let key = clients
            .values()
            .find(|c| c.online() && c.session_id == session_id);
        if let Some(key) = key.map(|c| c.key.clone()) {
            leave(&mut clients, &key, Utc::now());
        }
    }

    /// The client with that key.
    pub(crate) fn get(&self, key: &str) -> Option<ClientInfo> {
        self.by_key.lock().get(key).cloned()
    }

    /// All clients by user, client id, key.
    pub(crate) fn list(&self) -> Vec<ClientInfo> {
        let mut list: Vec<ClientInfo> = self.by_key.lock().values().cloned().collect();
        list.sort_by(|a, b| (&a.user, &a.client_id, &a.key).cmp(&(&b.user, &b.client_id, &b.key)));
        list
    }
}

/// The client id is online in another session. The text is frp's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client_id [{client_id}] for user [{user}] is already online")]
pub(crate) struct ClientIdTaken {
    client_id: String,
    user: String,
}

/// By which the API and the metrics know a client.
pub(crate) fn key_of(user: &str, id: &str) -> String {
    match (user, id) {
        ("", id) => id.to_owned(),
        (user, "") => user.to_owned(),
        (user, id) => format!("{user}.{id}"),
    }
}

fn leave(clients: &mut BTreeMap<String, ClientInfo>, key: &str, now: DateTime<Utc>) {
    let Some(client) = clients.get_mut(key) else {
        return;
    };
    if client.has_own_id && client.text_len() <= MAX_OFFLINE_TEXT_LEN {
        client.run_id.clear();
        client.session_id = 0;
        client.disconnected = Some(now);
    } else {
        clients.remove(key);
    }
}

fn bound_offline(clients: &mut BTreeMap<String, ClientInfo>) {
    if clients.len() <= MAX_CLIENTS {
        return;
    }
    let oldest = clients
        .values()
        .filter_map(|c| c.disconnected.map(|at| (at, &c.key)))
        .min();
    if let Some(key) = oldest.map(|(_, key)| key.clone()) {
        clients.remove(&key);
    }
}

/// Clients in the list before offline ones are forgotten, those gone longest first.
const MAX_CLIENTS: usize = 20_000;

/// A client that says more than this of itself is forgotten when it leaves, lest the list of those
/// that left take hundreds of megabytes. Each of these texts could fill a message.
const MAX_OFFLINE_TEXT_LEN: usize = 2048;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn arrival<'a>(client_id: &'a str, run_id: &'a str, session_id: u64) -> Arrival<'a> {
        Arrival {
            user: "u",
            client_id,
            has_own_id: !client_id.starts_with("run"),
            run_id,
            session_id,
            hostname: "host",
            version: "0.70.1",
            wire: "v1",
            ip: None,
        }
    }

    #[test]
    fn a_name_tells_no_more_than_the_start_of_a_run_id() {
        let clients = Clients::default();
        let name = clients.name_for("0123456789abcdef");
        assert!(name.starts_with("0123-") && name.len() == 13, "{name}");
        assert_eq!(name, clients.name_for("0123456789abcdef"));
        assert_ne!(name, clients.name_for("0123456789abcdee"));
    }

    #[test]
    fn a_client_id_is_online_once() {
        let clients = Clients::default();
        clients.arrive(&arrival("id", "run1", 1)).unwrap();
        let refused = clients.arrive(&arrival("id", "run2", 2)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "client_id [id] for user [u] is already online"
        );

        clients.depart(1);
        clients.arrive(&arrival("id", "run2", 2)).unwrap();
    }

    #[test]
    fn the_same_run_id_may_come_back_at_any_time() {
        let clients = Clients::default();
        clients.arrive(&arrival("id", "run1", 1)).unwrap();
        clients.arrive(&arrival("id", "run1", 2)).unwrap();

        clients.depart(1);
        assert!(
            clients.get("u.id").unwrap().online(),
            "the older session says nothing any more"
        );
        clients.depart(2);
        assert!(!clients.get("u.id").unwrap().online());
    }

    #[test]
    fn a_client_without_an_id_is_forgotten_when_it_leaves() {
        let clients = Clients::default();
        clients.arrive(&arrival("run1-name", "run1", 1)).unwrap();
        assert!(clients.get("u.run1-name").unwrap().online());
        clients.depart(1);
        assert!(clients.list().is_empty());
    }

    #[test]
    fn a_client_with_an_id_stays_as_offline() {
        let clients = Clients::default();
        clients.arrive(&arrival("id", "run1", 1)).unwrap();
        clients.depart(1);
        let list = clients.list();
        assert_eq!((list.len(), list[0].run_id.as_str()), (1, ""));
    }

    #[test]
    fn a_client_that_says_too_much_of_itself_is_forgotten_when_it_leaves() {
        let clients = Clients::default();
        let hostname = "h".repeat(MAX_OFFLINE_TEXT_LEN);
        let talkative = Arrival {
            hostname: &hostname,
            ..arrival("id", "run1", 1)
        };
        clients.arrive(&talkative).unwrap();
        assert!(clients.get("u.id").unwrap().online());
        clients.depart(1);
        assert!(clients.list().is_empty());
    }

    #[test]
    fn a_session_under_a_new_name_leaves_the_old_one() {
        let clients = Clients::default();
        clients.arrive(&arrival("old", "run1", 1)).unwrap();
        clients.arrive(&arrival("new", "run1", 2)).unwrap();
        assert!(!clients.get("u.old").unwrap().online());
        assert!(clients.get("u.new").unwrap().online());
    }
}
