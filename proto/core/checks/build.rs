//! Compiles the core's sources with their faulty variants, in this crate and in no other; and draws up a
//! name for the simulator, so that a seed can say of which one it is.

use std::path::Path;

fn main() {
    println!("cargo::rustc-cfg=pactum_mutants");
    println!("cargo::rerun-if-changed=build.rs");
    let mut hash = FNV_OFFSET;
    for folder in ["tests/simulation", "tests/world"] {
        println!("cargo::rerun-if-changed={folder}");
        mix_folder(&mut hash, Path::new(folder));
    }
    println!("cargo::rustc-env=PACTUM_SIMULATOR={hash:016x}");
}

/// FNV-1a, 64 bits (RFC 9923).
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Takes in every file's name and text: what a seed means follows from all of them.
fn mix_folder(hash: &mut u64, folder: &Path) {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the tests lie beside this file")
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    files.sort();
    for file in files {
        let name = file.to_string_lossy().replace('\\', "/");
        let text = std::fs::read(&file).expect("the tests are files");
        for byte in name.bytes().chain(text) {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
    }
}
