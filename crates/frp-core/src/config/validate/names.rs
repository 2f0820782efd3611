//! The rules of Kubernetes for names, by which frp checks annotations.

use std::collections::BTreeMap;

/// The bound on all annotations of a proxy together, in bytes.
const MAX_ANNOTATIONS_LEN: usize = 256 * 1024;

/// What is wrong with annotations: the key below the proxy, and frp's words.
pub(super) fn annotation_errors(annotations: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut errors = Vec::new();
    for key in annotations.keys() {
        for problem in qualified_name(&key.to_lowercase()) {
            let problem = format!("annotation key {key} is invalid: {problem}");
            errors.push((format!("annotations.{key}"), problem));
        }
    }
    let len: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if len > MAX_ANNOTATIONS_LEN {
        let problem = format!("annotations size {len} is larger than limit {MAX_ANNOTATIONS_LEN}");
        errors.push(("annotations".to_owned(), problem));
    }
    errors
}

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
                         and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                         '123-abc', regex used for validation is \
                         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const DNS_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                        characters, '-' or '.', and must start and end with an alphanumeric \
                        character (e.g. 'example.com', regex used for validation is \
                        '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// What is wrong with `prefix/name` or `name`.
fn qualified_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > 253 {
                    problems.push("prefix part must be no more than 253 characters".to_owned());
                }
                if !prefix.split('.').all(is_dns_label) {
                    problems.push(format!("prefix part {DNS_RULE}"));
                }
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {NAME_RULE} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 characters".to_owned());
    }
    if !is_name(name) {
        problems.push(format!("name part {NAME_RULE}"));
    }
    problems
}

fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    starts_and_ends_well(name) && name.bytes().all(is_inner)
}

fn is_dns_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    starts_and_ends_well(label) && label.bytes().all(is_inner)
}

fn starts_and_ends_well(name: &str) -> bool {
    match name.as_bytes() {
        [first, .., last] => first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric(),
        [only] => only.is_ascii_alphanumeric(),
        [] => false,
    }
}
