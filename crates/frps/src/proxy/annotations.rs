//! The rules for a proxy's annotations: those of Kubernetes, as in frp.

use std::collections::BTreeMap;

use crate::text::printable;

/// Checks the keys, and the size of everything.
pub(super) fn check(annotations: &BTreeMap<String, String>) -> Result<(), AnnotationError> {
    for key in annotations.keys() {
        check_key(&key.to_lowercase()).map_err(|reason| AnnotationError::Key {
            key: printable(key),
            reason,
        })?;
    }
    let size = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > MAX_SIZE {
        Err(AnnotationError::Size(size))
    } else {
        Ok(())
    }
}

/// A qualified name: `[prefix/]name`, where the prefix is a DNS name.
fn check_key(key: &str) -> Result<(), &'static str> {
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => return Err("at most one '/' is allowed"),
        Some(("", _)) => return Err("prefix part must be non-empty"),
        Some((prefix, name)) => {
            check_prefix(prefix)?;
            name
        }
    };
    if name.is_empty() {
        return Err("name part must be non-empty");
    }
    if name.len() > MAX_NAME_LEN {
        return Err("name part must be no more than 63 bytes");
    }
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !name.bytes().all(is_inner) || !has_alphanumeric_ends(name) {
        return Err(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character",
        );
    }
    Ok(())
}

fn check_prefix(prefix: &str) -> Result<(), &'static str> {
    if prefix.len() > MAX_PREFIX_LEN {
        return Err("prefix part must be no more than 253 bytes");
    }
    let is_label = |label: &str| {
        has_alphanumeric_ends(label)
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if prefix.split('.').all(is_label) {
        Ok(())
    } else {
        Err("prefix part must be a DNS name")
    }
}

fn has_alphanumeric_ends(text: &str) -> bool {
    let ends = text.bytes().next().zip(text.bytes().next_back());
    ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
}

/// Why annotations are refused. The texts begin as frp's do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnnotationError {
    #[error("annotation key {key} is invalid: {reason}")]
    Key { key: String, reason: &'static str },
    #[error("annotations size {0} is larger than limit {MAX_SIZE}")]
    Size(usize),
}

const MAX_SIZE: usize = 256 * 1024;
const MAX_NAME_LEN: usize = 63;
const MAX_PREFIX_LEN: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_qualified_names() {
        for key in ["a", "a.b_c-d", "frp.e2e.test/foo", "Upper/Case", "1/2"] {
            assert_eq!(check_key(&key.to_lowercase()), Ok(()), "{key}");
        }
        for key in [
            "", "/a", "a/", "a/b/c", "-a", "a-", "a b", "a_b/c", "é", "a..b/c",
        ] {
            assert!(check_key(key).is_err(), "{key}");
        }
        assert!(check_key(&"x".repeat(64)).is_err());
    }

    #[test]
    fn all_annotations_together_are_bounded() {
        let annotations = BTreeMap::from([("a".to_owned(), "x".repeat(MAX_SIZE))]);
        let error = check(&annotations).map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("annotations size 262145 is larger than limit 262144".to_owned())
        );
    }
}
