//! One-shot transactions: every branch's operation travels in the request.

use std::future::IntoFuture;
use std::sync::Arc;

use pactum_core::id::{ResourceName, TransactionId};
use pactum_proto::error::ErrorCode;
use pactum_proto::v1;
use pactum_proto::v1::pipeline_call::Call;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::ask::{Ask, Asked, Whom, query};
use super::details::{Details, details_options};
use super::outcome::Outcome;
use super::transaction::{BoxFuture, settle, settle_look_up};
use crate::context::BRANCHES_MAX;
use crate::error::{CommitError, InvalidInput, Refusal};

const PAYLOAD_BYTES_MAX: usize = 65_536;
const PAYLOADS_BYTES_MAX: usize = 262_144;

/// Between two gids for the same submit, so that a coordinator in trouble is not besieged.
const REDRAW_DELAY: std::time::Duration = std::time::Duration::from_millis(50);

/// Runs a one-shot transaction when awaited. Made by [`Pactum::submit`](crate::Pactum::submit).
///
/// The outcome is durable as for [`Transaction::commit`](crate::Transaction::commit), with the same errors.
#[derive(Debug)]
#[must_use = "nothing is submitted unless this is awaited"]
pub struct Submit {
    shared: Arc<Shared>,
    details: Details,
    operations: Vec<v1::Operation>,
    invalid: Option<InvalidInput>,
    wait: v1::Wait,
}

impl Submit {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            details: Details::default(),
            operations: Vec::new(),
            invalid: None,
            wait: v1::Wait::Finished,
        }
    }

    details_options!();

    /// Adds a branch: at `resource`, the handler `name` is given the payload and a local transaction.
    /// 1 to 64 branches; names in the alphabet of a resource; a payload of at most 64 KiB, all of
    /// them at most 256 KiB.
    pub fn operation(
        mut self,
        resource: impl AsRef<str>,
        name: impl AsRef<str>,
        payload: impl Into<Vec<u8>>,
    ) -> Self {
        let (resource, name, payload) = (resource.as_ref(), name.as_ref(), payload.into());
        let rule = "1 to 64 of a-z, 0-9, '-', '_' and '.', the first a letter or digit, are needed";
        let checks = [
            (ResourceName::new(resource).is_err(), "resource", rule),
            // The same alphabet.
            (ResourceName::new(name).is_err(), "operation", rule),
            (payload.len() > PAYLOAD_BYTES_MAX, "payload", "at most 65536 bytes are allowed"),
        ];
        if let Some((_, field, rule)) = checks.into_iter().find(|(bad, ..)| *bad) {
            self.invalid.get_or_insert(InvalidInput { field, rule });
        }
        let branch = self.operations.len() as u64 + 1;
        self.operations.push(v1::Operation {
            branch,
            resource: resource.to_owned(),
            name: name.to_owned(),
            payload,
        });
        self
    }

    /// Answers at the commit point, as soon as the decision is durable.
    pub fn wait_decision(mut self) -> Self {
        self.wait = v1::Wait::Decision;
        self
    }

    fn check(&mut self) -> Result<(), InvalidInput> {
        self.details.check()?;
        let payloads: usize = self.operations.iter().map(|operation| operation.payload.len()).sum();
        let checks = [
            (self.operations.is_empty(), "operations", "at least one is needed"),
            (self.operations.len() > BRANCHES_MAX, "operations", "at most 64 are allowed"),
            (payloads > PAYLOADS_BYTES_MAX, "payload", "at most 262144 bytes in all are allowed"),
        ];
        let found = checks.into_iter().find(|(bad, ..)| *bad);
        match self.invalid.take().or(found.map(|(_, field, rule)| InvalidInput { field, rule })) {
            Some(invalid) => Err(invalid),
            None => Ok(()),
        }
    }

    async fn run(mut self) -> Result<Outcome, CommitError> {
        self.check()?;
        let deadline = Instant::now() + self.details.timeout;
        loop {
            let id = self.draw().await?;
            let ask = Ask {
                shared: &self.shared,
                id,
                deadline,
                give_up: deadline + self.shared.grace,
                undecided_is_answer: false,
                whom: Whom::OwnerFirst,
            };
            let asked = ask
                .run(|time_left| {
                    Call::Submit(v1::SubmitRequest {
                        id: Some(id.into()),
                        operations: self.operations.clone(),
                        details: Some(self.details.wire()),
                        timeout: time_left.try_into().ok(),
                        wait: self.wait.into(),
                    })
                })
                .await;
            match asked {
                // A new gid is drawn only where no delivery of the old one can be carried out any
                // more: each was either never sent, or answered with the promise that nothing happened,
                // and a delivery is spent by its answer. If any went without an answer, the old
                // gid is the only safe one: the same work under another would run twice.
                Asked::Refused { refusal, may_have_arrived: false }
                    if may_redraw(&refusal) && Instant::now() < deadline =>
                {
                    sleep(REDRAW_DELAY).await;
                }
                Asked::OwnerGone { .. } if Instant::now() < deadline => sleep(REDRAW_DELAY).await,
                Asked::Refused { refusal, may_have_arrived: true } => {
                    // No branch set can be named, since the coordinator chose the instances: the
                    // look-up tells what stands and closes nothing.
                    let looked = ask.run(|_| query(id, &[])).await;
                    return settle_look_up(id, Vec::new(), looked, &refusal.to_string());
                }
                other @ (Asked::Known(_)
                | Asked::Refused { .. }
                | Asked::GaveUp { .. }
                | Asked::OwnerGone { .. }
                | Asked::Malformed { .. }) => return settle(id, Vec::new(), other),
            }
        }
    }

    async fn draw(&self) -> Result<TransactionId, CommitError> {
        self.shared.name_new().await?.ok_or(CommitError::FloorTooHigh)
    }
}

/// Whether a refusal certifies that this gid has not started, and that only another one can.
fn may_redraw(refusal: &Refusal) -> bool {
    ErrorCode::from_reason(refusal.reason()) == Some(ErrorCode::TooOldToStart)
}

impl IntoFuture for Submit {
    type Output = Result<Outcome, CommitError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
