#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| frp_core::fuzzing::config_bytes(data));
