#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kcp_proto::fuzzing::fec(data));
