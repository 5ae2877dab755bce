//! Asking until it is known: the one loop that every call of an application goes through.
//!
//! # Why repeating never runs a transaction twice
//!
//! A gid starts once (law 10), so a Commit, Submit or Abort that is repeated *with the same gid and
//! body* is either the first to arrive or gets the answer of the first; at a coordinator that does
//! not own the transaction it is a look-up (law 4). Repeating is therefore always safe, and the only
//! danger lies in a *new* gid for the same work. The loop keeps one bit for that: `may_have_arrived`.
//! A delivery is spent by its answer, for a stream delivers a call once: refused with the promise that
//! nothing happened, it leaves the bit as it was. Only a delivery without an answer, or an answer that
//! is itself uncertain, sets the bit, and nothing clears it: a later refusal says what that
//! *later* delivery did. Only while the bit is clear may a caller draw a new gid, or say that nothing happened.
//!
//! This file does not know which answers are good news.

use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder as _;
use pactum_core::coordinator::TransactionOutcome;
use pactum_core::id::{Branch, TransactionId};
use pactum_proto::error::{ErrorCode, ErrorFacts};
use pactum_proto::v1;
use pactum_proto::v1::pipeline_call::Call;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use super::pipeline::Answer;
use crate::error::Refusal;

/// An answer that has not come after this is asked for again, of another coordinator if there is
/// one. Well above the 5 s after which a coordinator answers a decided transaction that is unfinished.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(15);

/// Repetitions wait at least and at most this long; jitter keeps a herd apart.
const REPEAT_DELAY_MIN: Duration = Duration::from_millis(20);
const REPEAT_DELAY_MAX: Duration = Duration::from_secs(2);

/// While the answer is that it is not decided yet, repetitions wait at most this long: the owner's lease
/// may lapse at any moment, and the next answer is the definite one.
const UNDECIDED_DELAY_MAX: Duration = Duration::from_millis(500);

/// After so many such answers the next coordinator is asked: the owner, if it has come back, may
/// know of an abort that stands nowhere.
const UNDECIDED_IN_TURN: u32 = 4;

/// One that was silent once gets no longer than this while others are connected.
const SILENT_WAIT_MAX: Duration = Duration::from_secs(2);

/// One question, repeated until it is answered.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    pub(super) shared: &'a Shared,
    pub(super) id: TransactionId,
    /// Nothing new is begun after this: while nothing may have arrived, the loop ends here.
    pub(super) deadline: Instant,
    /// What may have arrived is asked for until then.
    pub(super) give_up: Instant,
    /// Whether an undecided transaction is an answer, or a reason to ask again.
    pub(super) undecided_is_answer: bool,
    pub(super) whom: Whom,
}

/// Which coordinators are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The owner, and after a silence any other.
    Anyone,
    /// The same, but the first delivery goes to the owner: at another one a Submit would be a look-up of
    /// something that never started.
    OwnerFirst,
    /// Nobody but the owner.
    Owner,
}

/// What the asking came to.
#[derive(Debug)]
pub(super) enum Asked {
    /// An outcome came.
    Known(TransactionOutcome),
    /// The call was refused for good.
    Refused {
        refusal: Refusal,
        /// An earlier delivery may have been carried out all the same.
        may_have_arrived: bool,
    },
    /// Time is up.
    GaveUp { problem: String, may_have_arrived: bool },
    /// Only the owner may be asked ([`Whom`]), and others are there but it is not.
    OwnerGone { problem: String },
    /// An answer that is not understood.
    Malformed { problem: String },
}

impl Ask<'_> {
    /// Asks until it is known, refused, or too late. `make` gets the time left until the deadline.
    pub(super) async fn run(&self, make: impl Fn(Duration) -> Call) -> Asked {
        let mut may_have_arrived = false;
        let mut silent = 0;
        let mut undecided: u32 = 0;
        let mut problem: Arc<str> = "no coordinator is connected".into();
        // Most calls are answered at the first.
        let mut delays = None;
        loop {
            let limit = if may_have_arrived { self.give_up } else { self.deadline };
            let gave_up = |problem: &str| Asked::GaveUp { problem: problem.to_owned(), may_have_arrived };
            if Instant::now() >= limit {
                return gave_up(&problem);
            }
            let Some(pipeline) = self
                .shared
                .find(limit, || {
                    self.shared.choose(&self.id, if self.whom == Whom::Owner { 0 } else { silent })
                })
                .await
            else {
                return gave_up(&self.shared.unreachable().to_string());
            };
            let must_own = match self.whom {
                Whom::Anyone => false,
                Whom::OwnerFirst => !may_have_arrived,
                Whom::Owner => true,
            };
            if must_own && !pipeline.owns(self.id.incarnation) {
                return Asked::OwnerGone { problem: problem.to_string() };
            }
            let answer_by = self.answer_by(silent);
            let time_left = self.deadline.saturating_duration_since(Instant::now());
            // What the answer says of the time until the next one.
            let (mut wait_min, mut wait_max) = (Duration::ZERO, Duration::MAX);
            match pipeline.call(make(time_left), answer_by).await {
                Answer::Outcome(outcome) => match TransactionOutcome::try_from(outcome) {
                    Ok(TransactionOutcome::Pending | TransactionOutcome::Unknown)
                        if !self.undecided_is_answer =>
                    {
                        may_have_arrived = true;
                        problem = "the transaction is not decided yet".into();
                        // Whoever said so is asked again, not the owner that was silent: if that hangs,
                        // each turn of its own would put off the answer of those who will know.
                        undecided = undecided.wrapping_add(1);
                        if undecided.is_multiple_of(UNDECIDED_IN_TURN) {
                            silent += 1;
                        }
                        wait_max = UNDECIDED_DELAY_MAX;
                    }
                    Ok(outcome) => return Asked::Known(outcome),
                    Err(error) => return Asked::Malformed { problem: error.to_string() },
                },
                Answer::Error(error) => match read_error(&error) {
                    ErrorKind::NothingHappened { refusal } => {
                        wait_min = spread(refusal.retry_after.unwrap_or_default());
                        problem = refusal.to_string().into();
                    }
                    ErrorKind::Refused { refusal } => return Asked::Refused { refusal, may_have_arrived },
                    ErrorKind::Standing(outcome) => return Asked::Known(outcome),
                    ErrorKind::Uncertain { refusal } => {
                        may_have_arrived = true;
                        problem = refusal.to_string().into();
                    }
                },
                Answer::NotSent { problem: why } => {
                    problem = why;
                    silent += 1;
                }
                Answer::Lost { problem: why } => {
                    may_have_arrived = true;
                    problem = why;
                    silent += 1;
                }
            }
            let limit = if may_have_arrived { self.give_up } else { self.deadline };
            let drawn = delays.get_or_insert_with(repeat_delays).next().unwrap_or(REPEAT_DELAY_MAX);
            let wait = drawn.min(wait_max).max(wait_min);
            sleep_until(limit.min(Instant::now() + wait)).await;
        }
    }

    /// Until when one coordinator's answer is waited for. One that hangs must leave time to ask another.
    fn answer_by(&self, silent: usize) -> Instant {
        let now = Instant::now();
        let mut wait = ANSWER_WAIT_MAX;
        let another = || self.shared.pipelines().iter().filter(|pipeline| pipeline.is_up()).nth(1).is_some();
        if self.whom != Whom::Owner && another() {
            wait = wait.min(self.give_up.saturating_duration_since(now) / 2);
            if silent > 0 {
                wait = wait.min(SILENT_WAIT_MAX);
            }
        }
        self.give_up.min(now + wait)
    }
}

/// What an error of the coordinator says of the delivery that it answers.
enum ErrorKind {
    /// Not carried out; repeat it.
    NothingHappened { refusal: Refusal },
    /// Not carried out, and repeating it changes nothing.
    Refused { refusal: Refusal },
    /// An error that is in truth an answer.
    Standing(TransactionOutcome),
    /// May have been carried out.
    Uncertain { refusal: Refusal },
}

fn read_error(error: &v1::CallError) -> ErrorKind {
    let facts = ErrorFacts::from_call_error(error);
    let known = facts.known();
    let ErrorFacts { grpc, message, reason, code, retry_after } = facts;
    let refusal = Refusal { code, reason, message, retry_after };
    match (grpc, known) {
        (tonic::Code::NotFound, Some(ErrorCode::Forgotten)) => {
            ErrorKind::Standing(TransactionOutcome::Forgotten)
        }
        (tonic::Code::NotFound, Some(ErrorCode::NoRecord)) => {
            ErrorKind::Standing(TransactionOutcome::NoRecord)
        }
        // The promise that nothing happened is the RetryInfo; without it these may come from anywhere
        // on the way.
        (tonic::Code::Unavailable | tonic::Code::ResourceExhausted, _) if retry_after.is_some() => {
            ErrorKind::NothingHappened { refusal }
        }
        (
            tonic::Code::InvalidArgument
            | tonic::Code::NotFound
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
            | tonic::Code::FailedPrecondition
            | tonic::Code::OutOfRange
            | tonic::Code::Unimplemented
            | tonic::Code::Unauthenticated,
            _,
        ) => ErrorKind::Refused { refusal },
        (
            tonic::Code::Ok
            | tonic::Code::Cancelled
            | tonic::Code::Unknown
            | tonic::Code::DeadlineExceeded
            | tonic::Code::ResourceExhausted
            | tonic::Code::Aborted
            | tonic::Code::Internal
            | tonic::Code::Unavailable
            | tonic::Code::DataLoss,
            _,
        ) => ErrorKind::Uncertain { refusal },
    }
}

/// The question what became of a transaction: a definite one if branches are named.
pub(super) fn query(id: TransactionId, branches: &[Branch]) -> Call {
    Call::GetTransaction(v1::GetTransactionRequest { id: Some(id.into()), branches: wire_branches(branches) })
}

pub(super) fn wire_branches(branches: &[Branch]) -> Vec<v1::Branch> {
    branches.iter().cloned().map(Into::into).collect()
}

/// A pause that a coordinator asked for, and up to half of it more: it asked many at once.
fn spread(pause: Duration) -> Duration {
    pause + pause.mul_f64(rand::random::<f64>() / 2.0)
}

fn repeat_delays() -> backon::ExponentialBackoff {
    backon::ExponentialBuilder::default()
        .with_min_delay(REPEAT_DELAY_MIN)
        .with_max_delay(REPEAT_DELAY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
