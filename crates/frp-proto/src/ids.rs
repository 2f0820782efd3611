//! Run ids, and how identifiers and secrets are printed.

use std::fmt;

/// The longest run id that is accepted. frp makes them of 16 characters, and takes over whatever a
/// client sends; the bound keeps logs and tables small.
pub const MAX_RUN_ID_LEN: usize = 64;

/// Makes a run id as frp does: 16 lowercase hexadecimal digits.
pub fn run_id(random: [u8; 8]) -> String {
    hex(&random)
}

/// Whether a run id that a client sent can be used: not empty, not too long, and printable ASCII
/// without spaces, so that it can stand in logs and addresses.
pub fn is_acceptable(run_id: &str) -> bool {
    !run_id.is_empty()
        && run_id.len() <= MAX_RUN_ID_LEN
        && run_id.bytes().all(|b| b.is_ascii_graphic())
}

/// An identifier as logs may show it: its first four characters. Whoever knows a run id can take
/// the place of its owner.
#[derive(Clone, Copy)]
pub struct Short<'a>(pub &'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars().take(4) {
            write!(f, "{}", c.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Stands for a secret in `Debug` output, and says only whether there is one.
#[derive(Clone, Copy)]
pub(crate) struct Redacted {
    is_empty: bool,
}

impl Redacted {
    pub(crate) fn new(is_empty: bool) -> Self {
        Self { is_empty }
    }
}

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty { "\"\"" } else { "***" })
    }
}

/// Lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            for nibble in [byte >> 4, byte & 0xf] {
                text.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_sixteen_digits() {
        assert_eq!(
            run_id([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]),
            "0123456789abcdef"
        );
    }

    #[test]
    fn any_short_printable_run_id_is_taken_over() {
        assert!(is_acceptable("0123456789abcdef") && is_acceptable("my-client"));
        assert!(!is_acceptable("") && !is_acceptable("a b") && !is_acceptable("a\nb"));
        assert!(!is_acceptable("é") && !is_acceptable(&"x".repeat(65)));
    }

    #[test]
    fn logs_show_the_first_four_characters() {
        assert_eq!(Short("0123456789abcdef").to_string(), "0123");
        assert_eq!(Short("éé").to_string(), "éé");
        assert_eq!(
            Short("a\n\u{1b}[31m").to_string(),
            "a\\n\\u{1b}[",
            "and no control character"
        );
    }
}
