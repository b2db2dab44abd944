//! libFuzzer's way to [`dynos_sync_fuzz::snapshot`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dynos_sync_fuzz::snapshot::run(data));
