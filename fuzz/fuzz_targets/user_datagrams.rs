#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| frp_proto::fuzzing::user_datagrams(data));
