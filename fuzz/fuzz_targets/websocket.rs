#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| transports::fuzzing::websocket_frames(data));
