//! A seam for this package's own measurements, behind the feature `bench` and no part of the interface:
//! a coordinator's services without a port, and its shards without a wire.
//!
//! Nothing of the coordinator is other than in service: the same shards, the same log writer, the same
//! outboxes. What is left out is HTTP/2 ([`services`]), or all of gRPC ([`ShardLoop`]).

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pactum_core::coordinator::{Event, Operation, SubmittedBranch, Wait};
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{BranchOutcome, Details};
use pactum_core::vote::{Evidence, Vote};
use pactum_proto::frames::participants_service_server::{ParticipantsService, ParticipantsServiceServer};
use pactum_proto::frames::transactions_service_server::{TransactionsService, TransactionsServiceServer};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{Coordinator, ServeError};
use crate::console::Gate;
pub use crate::decision_log::columns::Columns;
use crate::outbox::{Drain, Outbox, OutboxLimits};
use crate::reply::ReplyTo;
use crate::service::STREAM_BYTES_MAX;
use crate::service::wire::{ToApplication, ToParticipant};
use crate::session::Session;
use crate::shard::{Input, Request};

/// What a coordinator serves to applications and participants, to be called in this process: requests
/// and answers are encoded as on the wire, and carried by nothing.
///
/// # Errors
/// As [`Coordinator::start`].
pub fn services(
    coordinator: &Coordinator,
) -> Result<
    (
        TransactionsServiceServer<impl TransactionsService + use<>>,
        ParticipantsServiceServer<impl ParticipantsService + use<>>,
    ),
    ServeError,
> {
    let Coordinator { parts, config, .. } = coordinator;
    let gate =
        Gate::new(config, coordinator.admin_addr()).map_err(|error| ServeError::AdminTokens(error.into()))?;
    let services = parts.services(config, gate, axum::Router::new());
    Ok((
        TransactionsServiceServer::new(services.transactions).max_decoding_message_size(STREAM_BYTES_MAX),
        ParticipantsServiceServer::new(services.participants).max_decoding_message_size(STREAM_BYTES_MAX),
    ))
}

/// The incarnation that a coordinator starts transactions in, once it is ready.
pub fn incarnation(coordinator: &Coordinator) -> Option<Incarnation> {
    coordinator.parts.lifecycle.own()
}

/// A coordinator's shards with an application and two participants, all of them without a wire.
#[derive(Debug)]
pub struct ShardLoop<'a> {
    coordinator: &'a Coordinator,
    incarnation: Incarnation,
    in_flight: Arc<Semaphore>,
    application: Outbox<ToApplication>,
    answers: Messages<ToApplication>,
    participants: [(Branch, Messages<ToParticipant>); 2],
    drawn: u64,
}

/// What one peer reads.
struct Messages<M>(Drain<M>);

impl<M> std::fmt::Debug for Messages<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Messages(..)")
    }
}

/// Inputs of so many transactions, made before they are sent: requests, and each participant's votes
/// and ends.
#[derive(Debug)]
pub struct Batch {
    count: usize,
    requests: Vec<(Gid, Input)>,
    votes: Vec<(Gid, Input)>,
    ends: Vec<(Gid, Input)>,
}

/// A peer did not hear what it must hear: the measurement is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer's stream ended before its last message")]
pub struct PeerUnheard;

impl<'a> ShardLoop<'a> {
    /// Attaches both participants to a coordinator that is ready.
    ///
    /// # Errors
    /// [`PeerUnheard`]: it was not ready, or took no participant.
    ///
    /// # Panics
    /// Never: the names of the resources are plain.
    pub async fn attach(coordinator: &'a Coordinator) -> Result<Self, PeerUnheard> {
        let incarnation = incarnation(coordinator).ok_or(PeerUnheard)?;
        let limits = OutboxLimits { messages_max: usize::MAX, bytes_max: usize::MAX };
        let (application, answers) = Outbox::new(limits);
        let mut participants = Vec::with_capacity(2);
        for number in 1..=2 {
            let (outbox, messages) = Outbox::new(limits);
            let resource = ResourceName::new(&format!("bank-{number}")).expect("it is a plain name");
            let instance = InstanceId::from_uuid(Uuid::from_u128(u128::from(number)));
            let session = Session::scripted(instance, &[&resource], outbox);
            coordinator.parts.registry.attach(&session).await.or(Err(PeerUnheard))?;
            let branch = Branch { id: BranchId::new(number), resource, instance, marker: false };
            participants.push((branch, Messages(messages)));
        }
        Ok(Self {
            coordinator,
            incarnation,
            in_flight: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            application,
            answers: Messages(answers),
            participants: participants.try_into().or(Err(PeerUnheard))?,
            drawn: 0,
        })
    }

    /// Makes all inputs of `count` one-shot transactions with two branches, a name, a label and 32 bytes
    /// of payload each.
    ///
    /// # Errors
    /// [`PeerUnheard`]: the coordinator has stopped.
    pub fn batch(&mut self, count: usize) -> Result<Batch, PeerUnheard> {
        let mut batch = Batch {
            count,
            requests: Vec::with_capacity(count),
            votes: Vec::with_capacity(2 * count),
            ends: Vec::with_capacity(2 * count),
        };
        for _ in 0..count {
            self.drawn += 1;
            let gid = Gid::from_uuid(Uuid::now_v7());
            let id = TransactionId { incarnation: self.incarnation, gid };
            let permit = Arc::clone(&self.in_flight).try_acquire_owned().or(Err(PeerUnheard))?;
            batch.requests.push((gid, self.request(id, permit)));
            for (branch, _) in &self.participants {
                let vote = Vote::Commit(Evidence::new("4711", "7312345678901234567/1/16B3748"));
                let event = Event::VoteReceived { id, branch: branch.clone(), vote };
                batch.votes.push((gid, Input::Event(event)));
                let outcome = BranchOutcome::Committed;
                let event = Event::BranchFinished { id, branch: branch.clone(), outcome };
                batch.ends.push((gid, Input::Event(event)));
            }
        }
        Ok(batch)
    }

    fn request(&self, id: TransactionId, permit: tokio::sync::OwnedSemaphorePermit) -> Input {
        let submitted = |branch: &Branch| SubmittedBranch {
            // Its shard chooses who executes it.
            branch: Branch { instance: InstanceId::NIL, ..branch.clone() },
            operation: Operation { name: "add".into(), payload: [7; 32].into() },
        };
        let name = self.coordinator.parts.shards.draw_request();
        let event = Event::SubmitRequested {
            id,
            branches: self.participants.iter().map(|(branch, _)| submitted(branch)).collect(),
            details: Arc::new(Details {
                name: "transfer".into(),
                labels: [("order".into(), "4711".into())].into(),
                digest: Some([7; 16]),
                ..Details::default()
            }),
            timeout: Duration::from_secs(30),
            wait: Wait::Finished,
            request: name,
        };
        let to = ReplyTo::Pipeline { call_id: self.drawn, permit, outbox: self.application.clone() };
        Input::Request(Request { gid: id.gid, starts: true, event, name, to })
    }

    /// Sends a batch through, from its requests to its answers: each phase's messages are all heard
    /// before the next phase is sent.
    ///
    /// # Errors
    /// [`PeerUnheard`].
    pub async fn run(&mut self, batch: Batch) -> Result<(), PeerUnheard> {
        let Batch { count, requests, votes, ends } = batch;
        let shards = &self.coordinator.parts.shards;
        shards.send_calls(requests).await;
        for (_, messages) in &mut self.participants {
            messages.hear(count).await?;
        }
        shards.send_all(votes).await;
        for (_, messages) in &mut self.participants {
            messages.hear(count).await?;
        }
        shards.send_all(ends).await;
        self.answers.hear(count).await
    }
}

impl<M> Messages<M>
where
    Drain<M>: futures::Stream<Item = Result<Vec<M>, crate::error::ServiceError>>,
{
    /// Reads until so many have come: there are none but those of the phase, since these peers are told no
    /// Welcome.
    async fn hear(&mut self, count: usize) -> Result<(), PeerUnheard> {
        let mut heard = 0;
        while heard < count {
            heard += self.0.next().await.and_then(Result::ok).ok_or(PeerUnheard)?.len();
        }
        Ok(())
    }
}
