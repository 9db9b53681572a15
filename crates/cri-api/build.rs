//! Compiles the .proto files to Rust, without a protoc on the machine.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;
use prost_types::FileDescriptorSet;

/// Messages that hold secrets. Their `Debug` is written by hand in src/secret.rs.
const SECRET: [&str; 2] = [".runtime.v1.AuthConfig", ".runtime.v1.KeyValue"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    compile("runtime/v1/api.proto", &out.join("cri.bin"))?;
    Ok(())
}

fn feature(name: &str) -> bool {
    std::env::var_os(format!("CARGO_FEATURE_{name}")).is_some()
}

/// Writes the Rust of `proto` to OUT_DIR, and its descriptors, without the comments, to `descriptors`.
fn compile(proto: &str, descriptors: &Path) -> Result<(), Box<dyn Error>> {
    let files = protox::compile([proto], ["proto"])?;
    std::fs::write(descriptors, without_comments(files.clone()).encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(feature("CLIENT"))
        .build_server(feature("SERVER"))
        .btree_map(".")
        .bytes(".")
        .skip_debug(SECRET)
        .emit_rerun_if_changed(false)
        .compile_fds(files)?;
    Ok(())
}

fn without_comments(mut files: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut files.file {
        file.source_code_info = None;
    }
    files
}
