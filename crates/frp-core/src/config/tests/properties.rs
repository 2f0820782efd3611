//! No bytes upset the loading, in any format.

use proptest::prelude::*;

use super::*;
use crate::fuzzing::config_bytes;

/// The seed corpus of the fuzz target.
fn corpus() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/config");
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let corpus: Vec<_> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    assert!(corpus.len() >= 10, "the corpus is there");
    corpus
}

#[test]
fn the_corpus_upsets_nothing() {
    corpus().iter().for_each(|bytes| config_bytes(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_upset_it(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        config_bytes(&bytes);
    }

    #[test]
    fn no_text_upsets_it(text in "\\PC{0,128}") {
        config_bytes(text.as_bytes());
    }

    #[test]
    fn no_mutation_of_a_good_file_upsets_it(
        seed in any::<prop::sample::Index>(),
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..4, any::<u8>(), 0_usize..64),
            1..8,
        ),
    ) {
        let corpus = corpus();
        let mut bytes = seed.get(&corpus).clone();
        for (at, kind, byte, len) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..end)),
                _ => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        config_bytes(&bytes);
    }

    #[test]
    fn no_mixture_of_yaml_upsets_it(tokens in proptest::collection::vec(
        proptest::sample::select(vec![
            "a", ": ", "- ", "\n", "  ", "\t", "[", "]", "{", "}", ",", "&x ", "*x", "<<: ",
            "!!int ", "!t ",
            "'", "\"", "|", ">", "-", "---", "...", "%YAML 1.2\n", "#", "? ", "1", "~",
            "yes", "\r\n", "é", "\\x", "\u{feff}", "@", "`",
        ]),
        0..32,
    )) {
        config_bytes(tokens.concat().as_bytes());
    }

    #[test]
    fn json_is_read_as_by_serde(text in "[\\[\\]{},:\" 0-9a-fxtrue\\\\.eE+-]{0,24}") {
        let ours = json::parse(&text);
        // serde takes duplicate keys and refuses lone halves of pairs; neither can be told apart
        // by success alone.
        if let Err(error) = &ours {
            prop_assert!(error.at <= text.len());
        }
        if serde_json::from_str::<serde_json::Value>(&text).is_err() && ours.is_ok() {
            prop_assert!(text.contains("\\u") || text.contains(['e', 'E']), "{text}");
        }
    }
}
