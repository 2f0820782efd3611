//! The files that `includes` names: a folder that must exist, and a pattern for names in it.

use std::fs;
use std::path::{Path, PathBuf};

/// How many files one configuration may include.
const MAX_FILES: usize = 10_000;

/// The files of one entry of `includes`, in the order of their names. The folder is relative to the
/// working directory, as in frp.
pub(super) fn find(entry: &str) -> Result<Vec<PathBuf>, String> {
    let (dir, pattern) = match entry.rfind('/') {
        Some(0) => ("/", &entry[1..]),
        Some(slash) => (&entry[..slash], &entry[slash + 1..]),
        None => (".", entry),
    };
    let missing = |err: &std::io::Error| {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| PathBuf::from(dir));
        match err.kind() {
            std::io::ErrorKind::NotFound => {
                format!("stat {}: no such file or directory", dir.display())
            }
            _ => format!("open {}: {err}", dir.display()),
        }
    };
    let mut files = Vec::new();
    for file in fs::read_dir(dir).map_err(|err| missing(&err))? {
        let file = file.map_err(|err| missing(&err))?;
        if file.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = file.file_name();
        if name.to_str().is_some_and(|name| matches(pattern, name)) {
            if files.len() == MAX_FILES {
                return Err(format!("more than {MAX_FILES} files match {entry}"));
            }
            // Without the working directory's own name in front, as the entry was written.
            files.push(match dir {
                "." if entry == pattern => PathBuf::from(name),
                dir => Path::new(dir).join(name),
            });
        }
    }
    files.sort();
    Ok(files)
}

/// Go's `filepath.Match` for a single name. A malformed pattern matches nothing.
fn matches(pattern: &str, name: &str) -> bool {
    let Some(pattern) = parse(pattern) else {
        return false;
    };
    let name: Vec<char> = name.chars().collect();
    // Where to go on if what follows the last star does not fit: one character later.
    let mut retry = None;
    let (mut p, mut n) = (0, 0);
    loop {
        match (pattern.get(p), name.get(n)) {
            (None, None) => return true,
            (Some(Part::Star), _) => {
                retry = Some((p + 1, n));
                p += 1;
                continue;
            }
            (Some(part), Some(c)) if part.fits(*c) => {
                p += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        match retry {
            Some((star_end, start)) if start < name.len() => {
                retry = Some((star_end, start + 1));
                p = star_end;
                n = start + 1;
            }
            _ => return false,
        }
    }
}

/// A part of a pattern.
enum Part {
    /// Any characters.
    Star,
    /// Any one character.
    Any,
    /// This character.
    Char(char),
    /// One of these, or none of these.
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Part {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::Char(expected) => *expected == c,
            Self::Class { is_negated, ranges } => {
                let is_in = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                is_in != *is_negated
            }
        }
    }
}

fn parse(pattern: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '*' => Part::Star,
            '?' => Part::Any,
            '\\' => Part::Char(chars.next()?),
            '[' => {
                let is_negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.peek() != Some(&']') {
                    let low = class_char(&mut chars)?;
                    let high = match chars.next_if_eq(&'-') {
                        Some(_) => class_char(&mut chars)?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                chars.next();
                Part::Class { is_negated, ranges }
            }
            c => Part::Char(c),
        });
    }
    Some(parts)
}

fn class_char(chars: &mut impl Iterator<Item = char>) -> Option<char> {
    match chars.next()? {
        '-' | ']' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml.bak", false),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?.yaml", "a.yaml", true),
            ("?.yaml", "ab.yaml", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[", "[", false),
            ("[]a]", "]", false),
            ("*****a", "bbbba", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} and {name}");
        }
    }
}
