//! Whether an `Origin` can be parsed, which is all that frp asks of it.

/// Go's rule for the URL of a request, and not that of browsers: a host may be `frps.1` or have an
/// underscore.
pub(super) fn is_origin(text: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(text) else {
        return false;
    };
    if text.is_empty() || text.contains(|c: char| c.is_ascii_control()) {
        return false;
    }
    if text.starts_with('/') || text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && (scheme.bytes()).all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let Some(hierarchy) = rest.strip_prefix("//") else {
        return is_scheme;
    };
    let authority = hierarchy.split(['/', '?', '#']).next().unwrap_or_default();
    is_scheme && is_authority(authority)
}

/// RFC 3986 section 3.2.
fn is_authority(text: &str) -> bool {
    let host_and_port = text.rsplit_once('@').map_or(text, |(_user, rest)| rest);
    let port = match host_and_port.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((_, port)) => port.strip_prefix(':').or(port.is_empty().then_some("")),
            None => None,
        },
        None => Some(host_and_port.rsplit_once(':').map_or("", |(_, port)| port)),
    };
    port.is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
        && !text.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}'])
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn whatever_frpc_may_send_can_be_parsed() {
        for origin in [
            "http://127.0.0.1:7000",
            "http://[::1]:7000",
            "http://[::1]",
            "http://frps.example",
            "http://stack_frps.1:7000",
            "http://",
            "https://a:b@host:443/path?q#f",
            "/path",
            "mailto:a",
        ] {
            assert!(is_origin(origin.as_bytes()), "{origin}");
        }
    }

    #[test]
    fn what_is_no_url_cannot_be_parsed() {
        for origin in [
            "",
            "null",
            "host",
            "1http://h",
            "http://h:port",
            "http://[::1",
            "http://[::1]7000",
            "http://a b",
            "http://a\tb",
            "://h",
            "http://h:1:x",
        ] {
            assert!(!is_origin(origin.as_bytes()), "{origin}");
        }
        assert!(!is_origin(b"http://\xff"));
    }
}
