//! Who may ask a web server of ours for what.
//!
//! With a user or password configured, every request needs them. And because a browser on the same
//! host sends requests for pages of strangers, what changes something is refused when it shows
//! signs of coming from another site's page.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frp_proto::auth::secrets_equal;
use parking_lot::Mutex;

use crate::config::Secret;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// User or password are missing or wrong.
    Unauthorized,
    /// Too many wrong ones from this address.
    LockedOut,
    /// It would change something and comes from a page of another site.
    Foreign(&'static str),
}

/// The guard of one admin API.
#[derive(Debug)]
pub struct Guard {
    addr: String,
    user: String,
    password: Secret,
    failures: Mutex<Failures>,
}

impl Guard {
    /// Asks for `user` and `password` unless both are empty. `addr` is where the API listens.
    pub fn new(addr: &str, user: &str, password: Secret) -> Self {
        Self {
            addr: addr.to_owned(),
            user: user.to_owned(),
            password,
            failures: Mutex::default(),
        }
    }

    /// Lets `request` pass, or says why not.
    pub fn check(&self, request: &Request) -> Result<(), Refusal> {
        if self.has_auth() {
            let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
            let presented = credentials(request.headers());
            self.check_password(Instant::now(), peer, presented.as_deref())?;
        }
        self.check_site(request.method(), request.uri().path(), request.headers())
    }

    fn has_auth(&self) -> bool {
        !self.user.is_empty() || !self.password.is_empty()
    }

    fn check_password(
        &self,
        now: Instant,
        peer: Option<IpAddr>,
        presented: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        // Nothing presented is how every browser begins; it is no attempt.
        let presented = presented.ok_or(Refusal::Unauthorized)?;
        if peer.is_some_and(|peer| self.failures.lock().is_locked_out(now, peer)) {
            return Err(Refusal::LockedOut);
        }
        let expected = format!("{}:{}", self.user, self.password.expose());
        if secrets_equal(presented, expected.as_bytes()) {
            return Ok(());
        }
        if let Some(peer) = peer {
            self.failures.lock().add(now, peer);
        }
        Err(Refusal::Unauthorized)
    }

    /// Requests that change something must not come from another site's page.
    fn check_site(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name: &str| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap_or_default())
        };
        let fetch_site = text("sec-fetch-site");
        let origin = text("origin");
        if *method == Method::GET || *method == Method::HEAD {
            // frp's command line reloads by GET. A browser follows links and loads images by GET,
            // so with any sign of one it is refused.
            let is_browser = origin.is_some() || fetch_site.is_some() || text("referer").is_some();
            return if path == "/api/reload" && is_browser {
                Err(Refusal::Foreign("reload from a browser with POST"))
            } else {
                Ok(())
            };
        }
        if fetch_site.is_some_and(|site| site != "same-origin" && site != "none") {
            return Err(Refusal::Foreign(
                "the request comes from a page of another site",
            ));
        }
        let Some(origin) = origin else { return Ok(()) };
        let host = text("host").unwrap_or_default();
        let origin_host = origin.split_once("://").map_or("", |(_, host)| host);
        if origin_host.is_empty() || !origin_host.eq_ignore_ascii_case(host) {
            return Err(Refusal::Foreign(
                "the request comes from a page of another site",
            ));
        }
        // A stranger's host name may lead to this address by DNS. With a password the browser has
        // none for that name; without, only names that cannot be a stranger's are good.
        if !self.has_auth() && !self.is_own_host(host) {
            return Err(Refusal::Foreign("the host name is not one of this API"));
        }
        Ok(())
    }

    fn is_own_host(&self, host: &str) -> bool {
        let name = host_name(host);
        name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case(&self.addr)
            || name.parse::<IpAddr>().is_ok()
    }
}

/// The host in a `Host` header, without port and brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(name, _)| name);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// `user:password` as presented, whatever it is.
fn credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(SCHEME.len()).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Some(Vec::new());
    }
    Some(STANDARD.decode(encoded.trim_ascii()).unwrap_or_default())
}

const SCHEME: &[u8] = b"Basic ";

/// Wrong passwords by address, in the minute that began with the first.
#[derive(Debug, Default)]
struct Failures {
    by_peer: HashMap<IpAddr, (Instant, u32)>,
}

impl Failures {
    fn is_locked_out(&self, now: Instant, peer: IpAddr) -> bool {
        self.by_peer.get(&peer).is_some_and(|(since, n)| {
            *n >= MAX_FAILURES && now.saturating_duration_since(*since) < LOCKOUT
        })
    }

    fn add(&mut self, now: Instant, peer: IpAddr) {
        if self.by_peer.len() >= MAX_PEERS {
            self.by_peer
                .retain(|_, (since, _)| now.saturating_duration_since(*since) < LOCKOUT);
        }
        if self.by_peer.len() >= MAX_PEERS {
            // Who can use this many addresses is not held up by a lockout anyway.
            self.by_peer.clear();
        }
        let (since, n) = self.by_peer.entry(peer).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= LOCKOUT {
            (*since, *n) = (now, 0);
        }
        *n += 1;
    }
}

/// How long a refused password takes. frp's value.
pub const REFUSAL_DELAY: Duration = Duration::from_millis(200);

/// Wrong passwords within [`LOCKOUT`] after which an address is not listened to.
const MAX_FAILURES: u32 = 5;

/// How long wrong passwords are remembered.
const LOCKOUT: Duration = Duration::from_secs(60);

/// Addresses that wrong passwords are remembered of.
const MAX_PEERS: usize = 1024;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn guard(user: &str, password: &str) -> Guard {
        Guard::new("127.0.0.1", user, password.into())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn peer() -> Option<IpAddr> {
        Some("10.0.0.1".parse().unwrap())
    }

    #[test]
    fn the_right_password_passes_and_the_wrong_one_does_not() {
        let guard = guard("admin", "secret");
        let now = Instant::now();
        assert_eq!(
            guard.check_password(now, peer(), Some(b"admin:secret")),
            Ok(())
        );
        for wrong in [
            &b"admin:wrong"[..],
            b"admin:",
            b"",
            b"admin:secret2",
            b":secret",
        ] {
            let refused = guard.check_password(now, None, Some(wrong));
            assert_eq!(refused, Err(Refusal::Unauthorized), "{wrong:?}");
        }
        assert_eq!(
            guard.check_password(now, peer(), None),
            Err(Refusal::Unauthorized)
        );
    }

    #[test]
    fn five_wrong_passwords_lock_an_address_out_for_a_minute() {
        let guard = guard("admin", "secret");
        let now = Instant::now();
        for _ in 0..5 {
            let refused = guard.check_password(now, peer(), Some(b"admin:guess"));
            assert_eq!(refused, Err(Refusal::Unauthorized));
        }
        let right = Some(&b"admin:secret"[..]);
        assert_eq!(
            guard.check_password(now, peer(), right),
            Err(Refusal::LockedOut)
        );
        let other = Some("10.0.0.2".parse().unwrap());
        assert_eq!(
            guard.check_password(now, other, right),
            Ok(()),
            "others are not"
        );
        assert_eq!(guard.check_password(now + LOCKOUT, peer(), right), Ok(()));
    }

    #[test]
    fn asking_without_a_password_is_no_attempt() {
        let guard = guard("admin", "secret");
        let now = Instant::now();
        for _ in 0..100 {
            assert_eq!(
                guard.check_password(now, peer(), None),
                Err(Refusal::Unauthorized)
            );
        }
        assert_eq!(
            guard.check_password(now, peer(), Some(b"admin:secret")),
            Ok(())
        );
    }

    #[test]
    fn remembered_addresses_are_bounded() {
        let mut failures = Failures::default();
        for n in 0..10_000_u32 {
            failures.add(Instant::now(), IpAddr::V4(n.into()));
        }
        assert!(failures.by_peer.len() <= MAX_PEERS);
    }

    #[test]
    fn credentials_are_read_in_whatever_case() {
        let credentials = |value| credentials(&headers(&[("authorization", value)]));
        assert_eq!(
            credentials("Basic YWRtaW46c2VjcmV0").unwrap(),
            b"admin:secret"
        );
        assert_eq!(
            credentials("basic YWRtaW46c2VjcmV0").unwrap(),
            b"admin:secret"
        );
        assert_eq!(credentials("Bearer x").unwrap(), b"");
        assert_eq!(credentials("Basic !").unwrap(), b"");
        assert_eq!(credentials("B").unwrap(), b"");
    }

    #[test]
    fn a_reload_by_get_is_for_the_command_line_only() {
        let guard = guard("", "");
        let check = |pairs: &[(&'static str, &str)]| {
            guard.check_site(&Method::GET, "/api/reload", &headers(pairs))
        };
        assert_eq!(check(&[("host", "127.0.0.1:7400")]), Ok(()));
        for browser in [
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://127.0.0.1:7400"),
            ("referer", "http://evil.example/"),
        ] {
            assert!(
                check(&[("host", "127.0.0.1:7400"), browser]).is_err(),
                "{browser:?}"
            );
        }
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let guard = guard("", "");
        let check = |pairs: &[(&'static str, &str)]| {
            guard.check_site(&Method::POST, "/api/stop", &headers(pairs))
        };
        assert_eq!(check(&[("host", "127.0.0.1:7400")]), Ok(()), "a program");
        let host = ("host", "127.0.0.1:7400");
        assert_eq!(
            check(&[host, ("origin", "http://127.0.0.1:7400")]),
            Ok(()),
            "its own page"
        );
        assert!(check(&[host, ("origin", "http://evil.example")]).is_err());
        assert!(check(&[host, ("origin", "null")]).is_err());
        assert!(check(&[host, ("sec-fetch-site", "cross-site")]).is_err());
    }

    #[test]
    fn a_strangers_name_for_this_address_is_no_host_of_ours() {
        let rebound = headers(&[("host", "evil.example"), ("origin", "http://evil.example")]);
        let open = guard("", "");
        assert!(
            open.check_site(&Method::POST, "/api/stop", &rebound)
                .is_err()
        );
        for host in ["localhost:7400", "127.0.0.1", "[::1]:7400"] {
            let origin = format!("http://{host}");
            let own = headers(&[("host", host), ("origin", &origin)]);
            assert_eq!(
                open.check_site(&Method::POST, "/api/stop", &own),
                Ok(()),
                "{host}"
            );
        }
        let closed = guard("admin", "secret");
        assert_eq!(
            closed.check_site(&Method::POST, "/api/stop", &rebound),
            Ok(())
        );
    }
}
