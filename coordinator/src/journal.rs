//! The decision log as the shards use it: proposals, look-ups and lazy records, none of which
//! makes a shard wait.
//!
//! ```text
//!  shard ── propose ──▶ LogWriter ── answers ──▶ shard
//!        ── look up ──▶ one task per shard ────▶ shard
//!        ── finished, undecided ──▶ finisher, writer (lazy)
//!        ── heuristic ──▶ one task, until it is kept
//! ```
//!
//! Answers come back by a queue of their own without a limit: each order is answered once, so it
//! holds no more than was ordered, and what is ordered is bounded by the open transactions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pactum_core::coordinator::{Event, RequestId};
use pactum_core::id::{Branch, Gid, Incarnation, TransactionId};
use pactum_core::outcome::{
    Decision, DecisionRecord, Details, HeuristicOutcome, LookUpResult, ProposalResult,
};
use tokio::sync::mpsc;

use crate::decision_log::finisher::Finisher;
use crate::decision_log::writer::{self, LogWriter};
use crate::decision_log::{DecisionLog, HeuristicRecord, Proposal, UndecidedRecord};
use crate::tasks::Tasks;

/// Gids in one look-up statement. More makes the statement slower for all that share it.
const LOOK_UP_GIDS_MAX: usize = 256;

/// Look-ups that one shard waits for. Beyond it no more are taken in: a log that hangs would let them
/// pile up, and an inquiry is repeated by itself.
const LOOK_UPS_MAX: u64 = 65_536;

/// Heuristic outcomes that wait to be kept. They are rare, and each was told in the log as an
/// error too. More than this while the log is down are not kept, and their commits count as
/// unfinished: whoever recovers them hears of these outcomes again.
const HEURISTICS_MAX: usize = 16_384;

/// Between attempts to keep heuristic outcomes.
const HEURISTICS_RETRY: Duration = Duration::from_secs(1);

/// What all shards share.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    pub(crate) log: Arc<dyn DecisionLog>,
    pub(crate) writer: LogWriter,
    pub(crate) finisher: Finisher,
    heuristics: mpsc::Sender<Keep>,
}

/// What is kept in this order.
#[derive(Debug)]
enum Keep {
    /// A heuristic outcome.
    Heuristic(HeuristicRecord),
    /// The end of a commit that has some: told only after they are kept, or a crash in between
    /// would lose them, since nobody drives a finished commit again.
    Finished(TransactionId),
}

impl Journal {
    pub(crate) fn start(
        log: Arc<dyn DecisionLog>,
        writer: LogWriter,
        finisher: Finisher,
        tasks: &Tasks,
    ) -> Self {
        let (heuristics, waiting) = mpsc::channel(HEURISTICS_MAX);
        tasks.spawn(keep_heuristics(Arc::clone(&log), finisher.clone(), waiting));
        Self { log, writer, finisher, heuristics }
    }

    /// The journal of one shard; `answers` is where facts go.
    pub(crate) fn of_shard(&self, answers: mpsc::UnboundedSender<Event>, tasks: &Tasks) -> ShardJournal {
        let (look_ups, waiting) = mpsc::unbounded_channel();
        tasks.spawn(look_up(Arc::clone(&self.log), waiting, answers.clone()));
        let finisher = self.finisher.clone();
        let reply: writer::Reply = Arc::new(move |written: Vec<writer::Answer>| {
            for answer in written {
                settle_number(&finisher, &answer);
                let event = Event::ProposalAnswered {
                    id: answer.id,
                    proposed: answer.decision,
                    result: answer.result,
                };
                if answers.send(event).is_err() {
                    return; // The shard has ended; a successor reads the log.
                }
            }
        });
        ShardJournal {
            journal: self.clone(),
            reply,
            look_ups,
            waiting: Vec::new(),
            heuristic: HashMap::new(),
            proposals: Owed::default(),
            looked_up: Owed::default(),
        }
    }
}

/// Tells the finisher when the number of a commit proposal is free again: nothing stands under it.
fn settle_number(finisher: &Finisher, answer: &writer::Answer) {
    let no_commit_stands = match &answer.result {
        ProposalResult::Won => answer.decision == Decision::Abort,
        // Another transaction's record under the same gid is no commit of this one.
        ProposalResult::Lost(record) => record.decision == Decision::Abort || record.id != answer.id,
        ProposalResult::Fenced | ProposalResult::Forgotten => true,
        ProposalResult::Doubted | ProposalResult::Unknown => false,
    };
    if no_commit_stands {
        finisher.not_committed(answer.id);
    }
}

/// The journal of one shard.
pub(crate) struct ShardJournal {
    journal: Journal,
    reply: writer::Reply,
    look_ups: mpsc::UnboundedSender<(TransactionId, RequestId)>,
    /// Ordered and not taken by the writer yet.
    waiting: Vec<(Incarnation, Proposal)>,
    /// Transactions with heuristic outcomes, and whether all of them wait to be kept. Those of
    /// aborted ones stay here: they are as rare as operators' overruling.
    heuristic: HashMap<Gid, bool>,
    proposals: Owed,
    looked_up: Owed,
}

/// Orders and their answers. Each order is answered once.
#[derive(Debug, Default)]
struct Owed {
    ordered: u64,
    answered: u64,
}

impl Owed {
    fn waiting(&self) -> u64 {
        self.ordered.saturating_sub(self.answered)
    }
}

impl ShardJournal {
    /// Counts an answer of the log, if this fact is one.
    pub(crate) fn answered(&mut self, event: &Event) {
        if let Event::ProposalAnswered { .. } = event {
            self.proposals.answered += 1;
        } else if let Event::LookedUp { .. } = event {
            self.looked_up.answered += 1;
        }
    }

    /// Proposals without an answer, wherever they wait.
    pub(crate) fn unanswered(&self) -> usize {
        usize::try_from(self.proposals.waiting()).unwrap_or(usize::MAX)
    }

    /// Proposals that were answered so far.
    pub(crate) fn proposals_answered(&self) -> u64 {
        self.proposals.answered
    }

    /// Whether so many look-ups wait that no more are to be ordered.
    pub(crate) fn looks_up_enough(&self) -> bool {
        self.looked_up.waiting() >= LOOK_UPS_MAX
    }

    /// Takes in a record to be written; [`hand_over`](Self::hand_over) gives it to the writer.
    /// `own` is our present incarnation, under which anybody's transaction may be closed.
    pub(crate) fn propose(&mut self, record: DecisionRecord, own: Option<Incarnation>) {
        let (under, number) = match record.decision {
            Decision::Commit => (record.id.incarnation, self.journal.finisher.number_for(record.id)),
            Decision::Abort => (own.unwrap_or(record.id.incarnation), 0),
        };
        self.proposals.ordered += 1;
        self.waiting.push((under, Proposal { record, number }));
    }

    /// Gives the writer what it has room for. The rest waits for [`room`](Self::room).
    pub(crate) fn hand_over(&mut self) {
        while let Some((under, _)) = self.waiting.first() {
            let under = *under;
            let same = self.waiting.iter().take_while(|(other, _)| *other == under).count();
            let proposals = self.waiting.drain(..same).map(|(_, proposal)| proposal).collect();
            if let Err(back) = self.journal.writer.try_submit(under, proposals, &self.reply) {
                self.waiting.splice(..0, back.into_iter().map(|proposal| (under, proposal)));
                return;
            }
        }
    }

    /// Whether proposals wait for room at the writer.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() && !self.journal.writer.is_closed()
    }

    /// Waits until the writer has room.
    pub(crate) async fn room(&self) {
        self.journal.writer.room().await;
    }

    /// Reads what stands, in a batch with others.
    pub(crate) fn look_up(&mut self, id: TransactionId, request: RequestId) {
        self.looked_up.ordered += 1;
        if self.look_ups.send((id, request)).is_err() {
            tracing::debug!(gid = %id.gid, "a look-up came after the end");
        }
    }

    pub(crate) fn undecided(
        &self,
        id: TransactionId,
        branches: Vec<Branch>,
        details: &Details,
        age: Duration,
    ) {
        let details = details.clone();
        self.journal.writer.record_undecided(UndecidedRecord { id, branches, details, age });
    }

    pub(crate) fn forget_undecided(&self, gid: Gid) {
        self.journal.writer.forget_undecided(gid);
    }

    pub(crate) fn finished(&mut self, id: TransactionId) {
        match self.heuristic.get(&id.gid) {
            None => self.journal.finisher.finished(id),
            Some(true) => {
                self.heuristic.remove(&id.gid);
                if let Err(error) = self.journal.heuristics.try_send(Keep::Finished(id)) {
                    tracing::debug!(gid = %id.gid, %error, "its end is not recorded");
                }
            }
            // It stays unfinished, also if it is looked at again.
            Some(false) => {}
        }
    }

    pub(crate) fn heuristic(&mut self, id: TransactionId, branch: Branch, outcome: HeuristicOutcome) {
        let record = HeuristicRecord { id, branch, outcome };
        let kept = self.journal.heuristics.try_send(Keep::Heuristic(record));
        *self.heuristic.entry(id.gid).or_insert(true) &= kept.is_ok();
        if let Err(error) = kept {
            tracing::error!(gid = %id.gid, %error, "a heuristic outcome could not be kept");
        }
    }
}

/// Answers look-ups: whatever waits when one statement returns becomes the next one.
async fn look_up(
    log: Arc<dyn DecisionLog>,
    mut waiting: mpsc::UnboundedReceiver<(TransactionId, RequestId)>,
    answers: mpsc::UnboundedSender<Event>,
) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, LOOK_UP_GIDS_MAX).await > 0 {
        let gids: Vec<Gid> = batch.iter().map(|(id, _)| id.gid).collect();
        let mut results = match log.look_up(&gids).await {
            Ok(results) => results,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the log could not be read");
                Vec::new()
            }
        };
        let kept = if results.iter().any(|result| matches!(result, LookUpResult::Stands(_))) {
            log.heuristics(&gids).await.unwrap_or_else(|error| {
                tracing::warn!(error = %chain(&error), "heuristic outcomes could not be read");
                // Without them a mixed outcome would look like a plain one.
                for result in results.iter_mut().filter(|result| matches!(result, LookUpResult::Stands(_))) {
                    *result = LookUpResult::Unknown;
                }
                Vec::new()
            })
        } else {
            Vec::new()
        };
        // An answer that is missing is unknown, never "no record" (law 5).
        let results = results.into_iter().chain(std::iter::repeat(LookUpResult::Unknown));
        for ((id, request), result) in batch.drain(..).zip(results) {
            let of_it = kept.iter().filter(|kept| kept.id == id);
            let heuristics = of_it.map(|kept| (kept.branch.id, kept.outcome)).collect();
            if answers.send(Event::LookedUp { id, request, result, heuristics }).is_err() {
                return;
            }
        }
    }
}

/// Keeps heuristic outcomes, however often the log must be asked, and after them tells the ends of
/// their transactions.
async fn keep_heuristics(log: Arc<dyn DecisionLog>, finisher: Finisher, mut waiting: mpsc::Receiver<Keep>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, LOOK_UP_GIDS_MAX).await > 0 {
        let (mut records, mut ends) = (Vec::new(), Vec::new());
        for keep in batch.drain(..) {
            match keep {
                Keep::Heuristic(record) => records.push(record),
                Keep::Finished(id) => ends.push(id),
            }
        }
        while !records.is_empty()
            && let Err(error) = log.record_heuristics(&records).await
        {
            tracing::warn!(error = %chain(&error), "heuristic outcomes could not be kept yet");
            tokio::time::sleep(HEURISTICS_RETRY).await;
        }
        for id in ends {
            finisher.finished(id);
        }
    }
}

/// An error with its sources, for one line of a log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
