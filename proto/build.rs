//! Compiles `pactum/v1/*.proto` without a `protoc` on the machine: protox parses them in Rust, and
//! the descriptor set that it yields is kept for the reflection service.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const FILES: [&str; 4] = [
    "pactum/v1/types.proto",
    "pactum/v1/transactions.proto",
    "pactum/v1/participants.proto",
    "pactum/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("pactum.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
