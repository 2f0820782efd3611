//! Proxy names on the wire: `user.name` when the client has a user.

/// The name that `name` has on the wire.
pub fn wire_name(user: &str, name: &str) -> String {
    if user.is_empty() {
        name.to_owned()
    } else {
        format!("{user}.{name}")
    }
}

/// The name as the client knows it: without its own prefix, which is taken off once.
pub fn strip_user<'a>(user: &str, name: &'a str) -> &'a str {
    if user.is_empty() {
        return name;
    }
    name.strip_prefix(user)
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_put_before_the_name_and_taken_off_once() {
        assert_eq!(wire_name("alice", "ssh"), "alice.ssh");
        assert_eq!(wire_name("", "ssh"), "ssh");
        assert_eq!(strip_user("alice", "alice.ssh"), "ssh");
        assert_eq!(strip_user("alice", "alice.alice.ssh"), "alice.ssh");
        assert_eq!(strip_user("alice", "alicex.ssh"), "alicex.ssh");
        assert_eq!(strip_user("alice", "ssh"), "ssh");
        assert_eq!(strip_user("", "alice.ssh"), "alice.ssh");
    }
}
