//! Whether a peer knows the token.

use frp_core::config::{AuthScopes, Secret};
use frp_core::proto::auth::verify;
use frp_core::proto::msg::{Login, NewWorkConn, Ping};

/// The token and where it is asked for.
#[derive(Debug)]
pub(crate) struct Auth {
    token: Secret,
    scopes: AuthScopes,
}

impl Auth {
    /// Asks for `token` at login, and at what `scopes` names.
    pub(crate) fn new(token: Secret, scopes: AuthScopes) -> Self {
        Self { token, scopes }
    }

    /// The token, from which the ciphers' keys are derived.
    pub(crate) fn token(&self) -> &[u8] {
        self.token.expose().as_bytes()
    }

    /// Checks a login. `client_spec.always_auth_pass` means nothing here: it comes from the peer.
    pub(crate) fn check_login(&self, login: &Login) -> Result<(), WrongToken> {
        self.check(&login.privilege_key, login.timestamp, WrongToken::Login)
    }

    /// Checks a heartbeat, when that scope is on.
    pub(crate) fn check_ping(&self, ping: &Ping) -> Result<(), WrongToken> {
        if !self.scopes.heart_beats {
            return Ok(());
        }
        self.check(&ping.privilege_key, ping.timestamp, WrongToken::Ping)
    }

    /// Checks a work stream, when that scope is on.
    pub(crate) fn check_work_conn(&self, work_conn: &NewWorkConn) -> Result<(), WrongToken> {
        if !self.scopes.new_work_conns {
            return Ok(());
        }
        self.check(
            &work_conn.privilege_key,
            work_conn.timestamp,
            WrongToken::WorkConn,
        )
    }

    fn check(&self, key: &str, timestamp: i64, wrong: WrongToken) -> Result<(), WrongToken> {
        if verify(key, self.token(), timestamp) {
            Ok(())
        } else {
            Err(wrong)
        }
    }
}

/// The peer does not know the token. The texts are frp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WrongToken {
    /// In `Login`.
    #[error("token in login doesn't match token from configuration")]
    Login,
    /// In `Ping`.
    #[error("token in heartbeat doesn't match token from configuration")]
    Ping,
    /// In `NewWorkConn`.
    #[error("token in NewWorkConn doesn't match token from configuration")]
    WorkConn,
}

#[cfg(test)]
mod tests {
    use frp_core::proto::auth::privilege_key;

    use super::*;

    fn auth(heart_beats: bool, new_work_conns: bool) -> Auth {
        Auth::new(
            Secret::new("token"),
            AuthScopes {
                heart_beats,
                new_work_conns,
            },
        )
    }

    fn login(token: &str) -> Login {
        let privilege_key = privilege_key(token.as_bytes(), 1_700_000_000);
        Login {
            privilege_key,
            timestamp: 1_700_000_000,
            ..Login::default()
        }
    }

    #[test]
    fn only_the_right_token_logs_in() {
        let auth = auth(false, false);
        assert_eq!(auth.check_login(&login("token")), Ok(()));
        assert_eq!(auth.check_login(&login("tokem")), Err(WrongToken::Login));
        assert_eq!(auth.check_login(&Login::default()), Err(WrongToken::Login));
    }

    #[test]
    fn a_client_cannot_excuse_itself() {
        let mut login = login("wrong");
        login.client_spec.always_auth_pass = true;
        assert_eq!(
            auth(false, false).check_login(&login),
            Err(WrongToken::Login)
        );
    }

    #[test]
    fn other_messages_carry_the_token_only_in_their_scope() {
        let (ping, work_conn) = (Ping::default(), NewWorkConn::default());
        assert_eq!(auth(false, false).check_ping(&ping), Ok(()));
        assert_eq!(auth(false, false).check_work_conn(&work_conn), Ok(()));
        assert_eq!(auth(true, false).check_ping(&ping), Err(WrongToken::Ping));
        assert_eq!(
            auth(false, true).check_work_conn(&work_conn),
            Err(WrongToken::WorkConn)
        );
    }
}
