//! Takes the monitor's program into the binary where ISOPOD_MONITOR_ELF names it.

fn main() {
    println!("cargo::rerun-if-env-changed=ISOPOD_MONITOR_ELF");
    println!("cargo::rustc-check-cfg=cfg(embedded_monitor)");
    if let Some(path) = std::env::var_os("ISOPOD_MONITOR_ELF").filter(|path| !path.is_empty()) {
        let path = std::path::PathBuf::from(path);
        println!("cargo::rerun-if-changed={}", path.display());
        println!("cargo::rustc-env=ISOPOD_MONITOR_ELF={}", path.display());
        println!("cargo::rustc-cfg=embedded_monitor");
    }
}
