#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mailyard_exchange::fuzz::events(bytes));
