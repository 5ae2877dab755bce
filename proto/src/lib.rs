//! The wire: package `pactum.v1`, generated, and its descriptor set.

/// The messages and services of package `pactum.v1`.
#[allow(missing_docs, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("pactum.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of package `pactum.v1`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pactum.v1.bin"));
