//! Compiles the example services' own interfaces, without a `protoc` on the machine.

const FILES: [&str; 2] = ["proto/inventory.proto", "proto/ledger.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    tonic_prost_build::configure().compile_fds(protox::compile(FILES, ["proto"])?)?;
    Ok(())
}
