//! The program that libFuzzer drives; `ISOPOD_FUZZ_TARGET` names the target. Built by `cargo xtask fuzz`.
#![no_main]

use std::sync::OnceLock;

static TARGET: OnceLock<fuzz::Target> = OnceLock::new();

fn target() -> &'static fuzz::Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("ISOPOD_FUZZ_TARGET").unwrap_or_default();
        *fuzz::find(&name).unwrap_or_else(|| panic!("ISOPOD_FUZZ_TARGET={name:?} is no target"))
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (target().feed)(data));
