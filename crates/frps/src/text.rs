//! Text from peers, made fit for logs and messages.

/// `text` without control characters, and not endless: a peer cannot forge log lines with it.
pub(crate) fn printable(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(MAX_SHOWN_LEN)
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(MAX_SHOWN_LEN).is_some() {
        clean.push('…');
    }
    clean
}

/// Characters of a name that are shown. Longer than any name in use.
const MAX_SHOWN_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_name_cannot_start_a_line_of_its_own() {
        assert_eq!(printable("a\nb\x1b[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(printable("web.日本"), "web.日本");
    }

    #[test]
    fn a_name_is_shown_only_so_far() {
        assert_eq!(printable(&"x".repeat(10_000)).chars().count(), 257);
    }
}
