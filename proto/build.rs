//! Compiles `pactum/v1/*.proto` without a `protoc` on the machine: protox parses them in Rust, and
//! the descriptor set that it yields is kept for the reflection service.
//!
//! The two services with streams are made a second time with frames for messages: see `src/frames.rs`.

use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;
use prost_types::{MethodDescriptorProto, ServiceDescriptorProto};
use tonic_build::manual::{Builder, Method, Service};

const FILES: [&str; 4] = [
    "pactum/v1/types.proto",
    "pactum/v1/transactions.proto",
    "pactum/v1/participants.proto",
    "pactum/v1/admin.proto",
];

/// Those whose streams carry what is frequent.
const FRAMED: [&str; 2] = ["ParticipantsService", "TransactionsService"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("pactum.v1.bin"), descriptors.encode_to_vec())?;
    let services = descriptors.file.iter().flat_map(|file| &file.service);
    let framed: Vec<Service> =
        services.filter(|service| FRAMED.contains(&service.name())).map(framed).collect();
    Builder::new().compile(&framed);
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

/// The same service, its streams by the frame.
fn framed(service: &ServiceDescriptorProto) -> Service {
    let builder = Service::builder().name(service.name()).package("pactum.v1");
    let builder =
        service.method.iter().fold(builder, |builder, method| builder.method(framed_method(method)));
    builder.build()
}

fn framed_method(method: &MethodDescriptorProto) -> Method {
    let is_stream = method.client_streaming() && method.server_streaming();
    let (codec, types) = if is_stream {
        ("crate::frames::Codec", ["crate::frames::Frame".to_owned(), "crate::frames::Frame".to_owned()])
    } else {
        let path = |name: &str| format!("crate::v1::{}", name.rsplit('.').next().unwrap_or(name));
        ("::tonic_prost::ProstCodec", [path(method.input_type()), path(method.output_type())])
    };
    let [input, output] = types;
    let builder = Method::builder()
        .name(snake_case(method.name()))
        .route_name(method.name())
        .input_type(input)
        .output_type(output)
        .codec_path(codec);
    if is_stream { builder.client_streaming().server_streaming().build() } else { builder.build() }
}

/// `GetTransaction` as `get_transaction`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (place, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && place > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}
