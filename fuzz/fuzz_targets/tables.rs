#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| modest_fuzz::tables(data));
