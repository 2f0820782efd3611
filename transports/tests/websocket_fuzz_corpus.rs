//! The seed corpus of the fuzz target `websocket`, and thousands of mutations of it, without a
//! fuzzer.
//!
//! A run prints its seed when it fails; `FUZZ_SEED` sets it again.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::panic;
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use transports::fuzzing::websocket_frames;

/// For each file. A run of all takes a few seconds unoptimised.
const N_MUTATIONS: usize = 1_000;

#[test]
fn no_bytes_get_a_websocket_out_of_its_bounds() {
    let seed = std::env::var("FUZZ_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/websocket");
    let mut files: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there is a corpus");
    for file in files {
        let input = fs::read(&file).unwrap();
        websocket_frames(&input);
        let mut dice = SmallRng::seed_from_u64(seed);
        for round in 0..N_MUTATIONS {
            let mutated = mutate(&mut dice, &input);
            panic::catch_unwind(|| websocket_frames(&mutated)).unwrap_or_else(|_| {
                panic!(
                    "FUZZ_SEED={seed}, round {round} of {}: {mutated:02x?}",
                    file.display()
                )
            });
        }
    }
}

/// `input` with one to four changes. Most put a frame somewhere, with and without a mask.
fn mutate(dice: &mut SmallRng, input: &[u8]) -> Vec<u8> {
    let mut data = input.to_vec();
    for _ in 0..dice.random_range(1..=4) {
        let at = dice
            .random_range(0..data.len().max(1))
            .min(data.len().saturating_sub(1));
        match dice.random_range(0..8) {
            _ if data.is_empty() => data.push(dice.random()),
            0 => data[at] ^= 1 << dice.random_range(0..8),
            1 => data[at] = dice.random(),
            2 => drop(data.remove(at)),
            3 => data.truncate(at),
            _ => {
                let opcode = [0, 1, 2, 8, 9, 10][dice.random_range(0..6)];
                let mut frame = vec![0x80 | opcode];
                let mask_bit = dice.random_range(0..2) << 7;
                let short = [0, 1, 5, 125, 126, 127][dice.random_range(0..6)];
                frame.push(mask_bit | short);
                let n_more = dice.random_range(0..16);
                frame.extend((0..n_more).map(|_| dice.random::<u8>()));
                let at = if dice.random() { 0 } else { at };
                data.splice(at..at, frame);
            }
        }
    }
    data
}
