//! Whom a proxy may send to.

use std::collections::HashSet;
use std::net::SocketAddr;

/// The users that have sent something lately: two generations, of which the older one is forgotten
/// when the younger one is full. So the number is bounded, and whoever sends stays.
#[derive(Debug, Default)]
pub(super) struct Users {
    young: HashSet<SocketAddr>,
    old: HashSet<SocketAddr>,
}

impl Users {
    /// A datagram has come from this user.
    pub(super) fn note(&mut self, user: SocketAddr) {
        let user = canonical(user);
        if self.young.contains(&user) {
            return;
        }
        if self.young.len() >= MAX_USERS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(user);
    }

    /// Whether one has come lately.
    pub(super) fn is_known(&mut self, user: SocketAddr) -> bool {
        let user = canonical(user);
        if self.young.contains(&user) {
            return true;
        }
        let is_known = self.old.contains(&user);
        if is_known {
            self.note(user);
        }
        is_known
    }
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Users remembered per proxy, about 1 MiB. Source addresses can be forged, so there is a bound.
const MAX_USERS: usize = 16_384;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn user(n: u32) -> SocketAddr {
        (n.to_be_bytes(), 1000).into()
    }

    #[test]
    fn a_user_is_known_by_either_form_of_its_address() {
        let mut users = Users::default();
        users.note("[::ffff:192.0.2.1]:53".parse().unwrap());
        assert!(users.is_known("192.0.2.1:53".parse().unwrap()));
        assert!(!users.is_known("192.0.2.1:54".parse().unwrap()));
    }

    #[test]
    fn the_users_remembered_are_bounded_and_the_active_ones_stay() {
        let mut users = Users::default();
        for n in 0..1_000_000 {
            users.note(user(n));
            if n % 1000 == 0 {
                users.note(user(7));
            }
        }
        assert!(users.young.len() + users.old.len() <= MAX_USERS);
        assert!(users.is_known(user(7)));
        assert!(!users.is_known(user(8)));
    }
}
