//! libFuzzer's way to [`dynos_sync_fuzz::postgrest_error`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dynos_sync_fuzz::postgrest_error::run(data));
