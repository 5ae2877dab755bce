//! How long a record takes to be written into columns and read back: a seam for this package's own
//! measurements, behind the feature `bench`.

use pactum_core::id::TransactionId;
use pactum_core::outcome::DecisionRecord;

use super::codec::DecisionColumns;
use super::{DecisionLogError, Proposal};

/// The columns of one row of the table of decisions.
#[derive(Clone, Debug)]
pub struct Columns(DecisionColumns);

impl Columns {
    /// Those of a proposal.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(proposal: &Proposal) -> Result<Self, &'static str> {
        DecisionColumns::of(proposal).map(Self)
    }

    /// The record that they hold.
    ///
    /// # Errors
    /// [`DecisionLogError::Corrupt`].
    pub fn record(&self, id: TransactionId) -> Result<DecisionRecord, DecisionLogError> {
        self.0.record(id)
    }
}
