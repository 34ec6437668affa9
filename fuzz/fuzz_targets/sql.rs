#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pglifeguard_fuzz::sql::run(data));
