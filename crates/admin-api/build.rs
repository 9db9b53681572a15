//! Compiles the .proto file to Rust, without a protoc on the machine.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["isopod/admin/v1/admin.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(files)?;
    Ok(())
}
