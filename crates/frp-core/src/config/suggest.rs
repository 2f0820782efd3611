//! What was probably meant by a name that does not exist.

use super::shape::{Shape, Table};

/// How alike two names must be. `severAddr` and `serverAddr` have 0.98, `foo` and `user` 0.0.
const MIN_SIMILARITY: f64 = 0.85;

/// How deep below the top a key is looked for. The deepest, `auth.tokenSource.file.path`, is 4.
const MAX_DEPTH: usize = 5;

/// The hint for an unknown key among `siblings`, in the table at `path`.
///
/// A key of just that name that belongs elsewhere comes first: `token` at the top for `auth.token`,
/// `server_addr` of an INI file for `serverAddr`. Else a sibling that is spelled alike is meant.
pub(super) fn key(
    unknown: &str,
    siblings: &[&'static str],
    path: &str,
    root: &'static Table,
) -> Option<String> {
    // Both programs have `transport.auto`, and only frps's is turned on by a key of its own.
    if path == "transport.auto" && plain(unknown) == "enable" && !siblings.contains(&"enable") {
        return Some("did you mean transport.protocol = \"auto\"?".to_owned());
    }
    let mut paths = Vec::new();
    // Proxies have their own keys: one of theirs never belongs to the top, nor the other way round.
    if !path.contains('[') {
        collect(root, "", 0, &mut paths);
    }
    let wanted = plain(unknown);
    let is_sibling = siblings.iter().any(|sibling| plain(sibling) == wanted);
    let found = paths.iter().filter(|path| {
        let last = path.rsplit('.').next().unwrap_or_default();
        plain(last) == wanted || plain(path) == wanted
    });
    // Of several, the one below the table in which it was written.
    let found = found.min_by_key(|found| path.is_empty() || !found.starts_with(path));
    match found {
        Some(path) if !is_sibling => Some(hint(path)),
        _ => nearest(unknown, siblings.iter().copied()),
    }
}

/// The hint for an unknown name: the nearest of `known`, if there is one near enough.
pub(super) fn nearest<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let unknown = plain(unknown);
    let known = known.into_iter().map(|known| {
        let plain_known = plain(known);
        let similarity = strsim::jaro_winkler(&unknown, &plain_known);
        // One slip in a short name: `tpc` for `tcp`.
        let is_slip = unknown.len() > 2 && strsim::osa_distance(&unknown, &plain_known) <= 1;
        (if is_slip { 1.0 } else { similarity }, known)
    });
    let best = known.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .map(|(_, known)| hint(known))
}

fn hint(known: &str) -> String {
    format!("did you mean {known:?}?")
}

/// Only letters and digits, in lower case: what `server_addr` and `serverAddr` have in common.
fn plain(name: &str) -> String {
    let kept = name.chars().filter(|c| c.is_alphanumeric());
    // Nothing longer is a key, and comparing is quadratic.
    kept.take(64).flat_map(char::to_lowercase).collect()
}

/// The paths of all keys under `table`, those of the upper levels first.
fn collect(table: &'static Table, prefix: &str, depth: usize, paths: &mut Vec<String>) {
    paths.extend(
        table
            .fields
            .iter()
            .map(|field| format!("{prefix}{}", field.key)),
    );
    if depth == MAX_DEPTH {
        return;
    }
    for field in table.fields {
        if let Shape::Table(inner) = (field.shape)() {
            collect(inner, &format!("{prefix}{}.", field.key), depth + 1, paths);
        }
    }
}
