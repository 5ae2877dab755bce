//! Compiles the core's sources with their faulty variants, in this crate and in no other.

fn main() {
    println!("cargo::rustc-cfg=pactum_mutants");
    println!("cargo::rerun-if-changed=build.rs");
}
