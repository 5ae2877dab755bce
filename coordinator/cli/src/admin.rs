//! Calls to the admin address of a running coordinator: connecting, the token, time limits, and what
//! each kind of error means for the person who typed the command.

mod page;
mod token;

use std::error::Error;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use pactum_proto::error::ErrorCode;
use pactum_proto::v1::admin_service_client::AdminServiceClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt;

use crate::args::Global;
use crate::exit::Exit;
use crate::failure::{Failure, StableCode};
use token::Token;

/// A client that shows the token, if there is one, with each call.
pub(crate) type AdminClient = AdminServiceClient<InterceptedService<Channel, Token>>;

/// A connection to a coordinator's admin service.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) client: AdminClient,
    timeout: Duration,
    server: String,
    channel: Channel,
    token: Token,
}

/// The largest answer that is taken: enough for the largest page.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What a call may have done if its answer is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it only reads, or doing it again is all that is lost.
    None,
    /// The change that was asked for: the outcome is unknown.
    Change,
}

impl Admin {
    /// Connects as the global options say.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let server = global.server.clone();
        let malformed = || {
            Failure::usage(format!("{server:?} is not the address of a server"))
                .next("write it like http://127.0.0.1:7601 (--server or PACTUM_SERVER)")
        };
        let mut endpoint =
            Endpoint::from_shared(server.clone()).map_err(|error| malformed().because(&error))?;
        endpoint = match (endpoint.uri().scheme_str(), endpoint.uri().host()) {
            (Some("http"), Some(_)) => endpoint,
            (Some("https"), Some(_)) => {
                let tls = client_tls(global).await?;
                endpoint
                    .tls_config(tls)
                    .map_err(|error| Failure::usage("the TLS files cannot be used").because(&error))?
            }
            _ => return Err(malformed()),
        };
        let token = Token::of(global, endpoint.uri()).await?;
        let cannot_connect = || {
            Failure::new(Exit::CannotConnect, format!("no connection to {server}")).code(ErrorCode::CannotConnect).next(
                "start one with `pactum dev`, or say where it is with --server (the admin port, 7601 by default)",
            )
        };
        let endpoint = endpoint.connect_timeout(global.connect_timeout);
        let channel = match tokio::time::timeout(global.connect_timeout, endpoint.connect()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(error)) => return Err(cannot_connect().because(&error)),
            Err(elapsed) => {
                return Err(cannot_connect()
                    .cause(format!("no answer within {}", humantime::format_duration(global.connect_timeout)))
                    .because(&elapsed));
            }
        };
        // A page of a thousand transactions with all their steps outgrows the usual 4 MiB.
        let client = AdminServiceClient::with_interceptor(channel.clone(), token.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client, timeout: global.timeout, server, channel, token })
    }

    /// Waits for an answer, at most for `--timeout`.
    pub(crate) async fn call<T>(
        &self,
        effect: Effect,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(effect, &status)),
            Err(_elapsed) => Err(self.deadline(effect)),
        }
    }

    /// Reads a page of the admin address, for example `/metrics`; shows the token with it.
    pub(crate) async fn get(&self, path: &str) -> Result<String, Failure> {
        let asked = tokio::time::timeout(self.timeout, page::get(self.channel.clone(), &self.token, path));
        match asked.await {
            Ok(answer) => answer.map_err(|problem| {
                Failure::new(Exit::Failed, format!("{path} of {} cannot be read", self.server)).cause(problem)
            }),
            Err(_elapsed) => Err(self.deadline(Effect::None)),
        }
    }

    /// What a status means here.
    pub(crate) fn failure(&self, effect: Effect, status: &Status) -> Failure {
        let info = status.get_details_error_info();
        let code = info.as_ref().map(|info| StableCode {
            reason: info.reason.clone(),
            code: info.metadata.get("code").cloned().unwrap_or_default(),
        });
        // A status without our details was made on this side, from a broken connection.
        let lost = info.is_none() && (status.code() == Code::Unavailable || transport_error(status));
        if lost {
            return self.lost(effect, status);
        }
        let exit = match status.code() {
            Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
            Code::NotFound => Exit::NotFound,
            Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => Exit::Refused,
            Code::Unauthenticated | Code::PermissionDenied => Exit::Auth,
            Code::DeadlineExceeded => return self.deadline(effect).stable_code(code),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Exit::Failed,
        };
        let mut failure = Failure::new(exit, status.message()).stable_code(code);
        for violation in status.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations) {
            failure = failure.cause(format!("{}: {}", violation.field, violation.description));
        }
        if let Some(delay) = status.get_details_retry_info().and_then(|retry| retry.retry_delay) {
            failure = failure.next(format!("try again in {}", humantime::format_duration(delay)));
        }
        if status.code() == Code::Unimplemented {
            let server = &self.server;
            return failure
                .next(format!("{server} is no admin address of this version; that is port 7601 by default"));
        }
        failure
    }

    /// No answer in time.
    fn deadline(&self, effect: Effect) -> Failure {
        let waited = humantime::format_duration(self.timeout);
        let failure = match effect {
            Effect::None => {
                Failure::new(Exit::Deadline, format!("no answer from {} within {waited}", self.server))
                    .next("give it longer with --timeout")
            }
            Effect::Change => Failure::new(
                Exit::Unknown,
                format!("no answer from {} within {waited}: it may or may not have happened", self.server),
            )
            .next("run the same command again: repeating it is safe"),
        };
        failure.code(ErrorCode::TimedOut)
    }

    /// The connection broke under a call.
    fn lost(&self, effect: Effect, status: &Status) -> Failure {
        let failure = match effect {
            Effect::None => {
                Failure::new(Exit::CannotConnect, format!("the connection to {} was lost", self.server))
                    .code(ErrorCode::CannotConnect)
            }
            Effect::Change => Failure::new(
                Exit::Unknown,
                format!("the connection to {} was lost: it may or may not have happened", self.server),
            )
            .code(ErrorCode::OutcomeUnknown),
        };
        failure.because(status).next("run the same command again: repeating it is safe")
    }
}

fn transport_error(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(error) = next {
        if error.is::<tonic::transport::Error>() || error.is::<std::io::Error>() {
            return true;
        }
        next = error.source();
    }
    false
}

async fn client_tls(global: &Global) -> Result<ClientTlsConfig, Failure> {
    let Some(ca) = &global.tls_ca else {
        return Err(Failure::usage("an https server needs --tls-ca").next(
            "name the certificates (PEM) that its own must be signed by, with --tls-ca or PACTUM_TLS_CA",
        ));
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem(ca).await?));
    if let (Some(cert), Some(key)) = (&global.tls_cert, &global.tls_key) {
        tls = tls.identity(Identity::from_pem(pem(cert).await?, pem(key).await?));
    }
    Ok(tls)
}

async fn pem(path: &Path) -> Result<Vec<u8>, Failure> {
    tokio::fs::read(path)
        .await
        .map_err(|error| Failure::usage(format!("{} cannot be read", path.display())).because(&error))
}
