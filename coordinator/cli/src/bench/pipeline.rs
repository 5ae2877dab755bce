//! One stream of calls as the SDK opens it, without what the SDK does for its callers: nothing is repeated, and
//! each call is sent when it is handed over.

use pactum_core::id::Gid;
use pactum_proto::v1;
use pactum_proto::v1::pipeline_answer::Answer;
use pactum_proto::v1::pipeline_call::Call;
use pactum_proto::v1::transactions_service_client::TransactionsServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Endpoint;
use uuid::Uuid;

use super::wire::SubmitWork;
use crate::exit::Exit;
use crate::failure::Failure;

/// Calls in one message, as the protocol bounds them.
const BATCH_MAX: usize = 1024;

/// An application's stream.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Not bounded: what waits here because the coordinator does not read on must wait by the clock, and its
    /// time counts. What can come is the rate times the length of a run.
    requests: mpsc::UnboundedSender<v1::PipelineRequest>,
    answers: Streaming<v1::PipelineResponse>,
    incarnation: Vec<u8>,
    operations: Vec<v1::Operation>,
    next_call: u64,
}

/// How a call was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// Committed.
    Committed,
    /// Turned away, with the promise that nothing happened and a time to wait.
    Shed,
    /// Anything else, in words.
    Otherwise(String),
}

impl Pipeline {
    /// Connects, and waits until transactions can be begun.
    pub(super) async fn open(work: &SubmitWork) -> Result<Self, Failure> {
        let failed =
            |error| Failure::new(Exit::CannotConnect, "no connection to the coordinator").because(&error);
        let endpoint = Endpoint::from_shared(work.coordinator.clone()).map_err(failed)?;
        let channel = endpoint.tcp_nodelay(true).connect().await.map_err(failed)?;
        let (requests, outgoing) = mpsc::unbounded_channel();
        let refused =
            |status: tonic::Status| Failure::new(Exit::Failed, "no stream is opened").because(&status);
        let mut client = TransactionsServiceClient::new(channel);
        let answers = client.pipeline(UnboundedReceiverStream::new(outgoing)).await.map_err(refused)?;
        let mut answers = answers.into_inner();
        let incarnation = loop {
            let response = answers.message().await.map_err(refused)?;
            let response = response.ok_or_else(|| Failure::new(Exit::Failed, "the stream was closed"))?;
            match response.welcome {
                Some(welcome) if !welcome.incarnation.is_empty() => break welcome.incarnation,
                _ => {}
            }
        };
        let operations = work.resources.iter().zip(1..).map(|(resource, branch)| v1::Operation {
            branch,
            resource: resource.clone(),
            name: work.operation.clone(),
            payload: Vec::new(),
        });
        Ok(Self { requests, answers, incarnation, operations: operations.collect(), next_call: 0 })
    }

    /// Submits so many new transactions; answers the number of the first call, which the others follow.
    pub(super) fn submit(&mut self, count: usize) -> Result<u64, Failure> {
        let first = self.next_call;
        let mut left = count;
        while left > 0 {
            let now = left.min(BATCH_MAX);
            let calls = (0..now).map(|_| self.call()).collect();
            left -= now;
            self.requests.send(v1::PipelineRequest { calls }).map_err(|error| {
                Failure::new(Exit::Failed, "the coordinator has ended the stream").because(&error)
            })?;
        }
        Ok(first)
    }

    fn call(&mut self) -> v1::PipelineCall {
        let gid = Gid::from_uuid(Uuid::now_v7());
        let submit = v1::SubmitRequest {
            id: Some(v1::TransactionId {
                incarnation: self.incarnation.clone(),
                gid: gid.as_uuid().as_bytes().to_vec(),
            }),
            operations: self.operations.clone(),
            ..v1::SubmitRequest::default()
        };
        let call_id = self.next_call;
        self.next_call += 1;
        v1::PipelineCall { call_id, call: Some(Call::Submit(submit)) }
    }

    /// Waits for answers. May be dropped while it waits.
    pub(super) async fn answers(&mut self) -> Result<Vec<(u64, Answered)>, Failure> {
        let response = self.answers.message().await;
        let response = response.map_err(|status| {
            Failure::new(Exit::Failed, "the coordinator has ended the stream").because(&status)
        })?;
        let response =
            response.ok_or_else(|| Failure::new(Exit::Failed, "the coordinator has ended the stream"))?;
        Ok(response.answers.into_iter().map(|answer| (answer.call_id, read(answer.answer))).collect())
    }
}

fn read(answer: Option<Answer>) -> Answered {
    match answer {
        Some(Answer::Outcome(outcome)) if outcome.state() == v1::OutcomeState::Committed => {
            Answered::Committed
        }
        Some(Answer::Outcome(outcome)) => {
            let reason = outcome.reason.as_ref().map_or("", |reason| reason.message.as_str());
            Answered::Otherwise(format!("{:?} {reason}", outcome.state()))
        }
        Some(Answer::Error(error)) => {
            let is_exhausted = error.code == tonic::Code::ResourceExhausted as i32;
            if is_exhausted && error.retry_after.is_some() {
                Answered::Shed
            } else {
                Answered::Otherwise(format!("{} ({})", error.message, error.pactum_code))
            }
        }
        None => Answered::Otherwise("an answer without an answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_that_says_when_to_come_again_counts_as_shed() {
        let error = |code: tonic::Code, retry_after: Option<prost_types::Duration>| {
            read(Some(Answer::Error(v1::CallError {
                code: code as i32,
                retry_after,
                ..v1::CallError::default()
            })))
        };
        let soon = Some(prost_types::Duration { seconds: 0, nanos: 1 });
        assert_eq!(error(tonic::Code::ResourceExhausted, soon), Answered::Shed);
        for (code, retry_after) in [(tonic::Code::ResourceExhausted, None), (tonic::Code::Unavailable, soon)]
        {
            assert!(matches!(error(code, retry_after), Answered::Otherwise(_)), "{code:?}");
        }
        let outcome = |state: v1::OutcomeState| {
            read(Some(Answer::Outcome(v1::Outcome { state: state.into(), ..v1::Outcome::default() })))
        };
        assert_eq!(outcome(v1::OutcomeState::Committed), Answered::Committed);
        assert!(matches!(outcome(v1::OutcomeState::Aborted), Answered::Otherwise(_)));
        assert!(matches!(read(None), Answered::Otherwise(_)));
    }
}
