#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transports::fuzzing::mux_bytes(data));
