//! The coordinators whose streams are open: who owns what, and whom to send to.

use std::collections::BTreeMap;

use pactum_core::id::Incarnation;
use pactum_core::participant::SessionId;
use tokio::sync::mpsc;

use super::batch::Outgoing;

/// A stream that can be sent on.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) place: usize,
    pub(super) incarnation: Option<Incarnation>,
    pub(super) outbox: mpsc::Sender<Outgoing>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Peers {
    attached: BTreeMap<SessionId, Peer>,
    /// Which incarnation each address served last.
    served: BTreeMap<usize, Incarnation>,
    /// Draws whose turn it is to be asked where the owner cannot be.
    turn: u64,
}

impl Peers {
    pub(super) fn insert(&mut self, session: SessionId, peer: Peer) {
        self.attached.insert(session, peer);
    }

    pub(super) fn remove(&mut self, session: SessionId) -> Option<Peer> {
        self.attached.remove(&session)
    }

    pub(super) fn get(&self, session: SessionId) -> Option<&Peer> {
        self.attached.get(&session)
    }

    pub(super) fn contains(&self, session: SessionId) -> bool {
        self.attached.contains_key(&session)
    }

    /// All of them, the oldest first.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.attached.keys().copied().collect()
    }

    /// The stream's coordinator is this incarnation from now on. Returns its place.
    pub(super) fn renamed(&mut self, session: SessionId, incarnation: Option<Incarnation>) -> Option<usize> {
        let peer = self.attached.get_mut(&session)?;
        peer.incarnation = incarnation;
        Some(peer.place)
    }

    /// The place leads to this incarnation; returns another one that it led to before.
    pub(super) fn served(&mut self, place: usize, incarnation: Incarnation) -> Option<Incarnation> {
        self.served.insert(place, incarnation).filter(|before| *before != incarnation)
    }

    /// Whether any stream leads to this incarnation.
    pub(super) fn lead_to(&self, incarnation: Incarnation) -> bool {
        self.owner(incarnation).is_some()
    }

    /// The newest session with the owner of transactions of this incarnation.
    pub(super) fn owner(&self, incarnation: Incarnation) -> Option<SessionId> {
        let mut owners = self.attached.iter().filter(|(_, peer)| peer.incarnation == Some(incarnation));
        owners.next_back().map(|(session, _)| *session)
    }

    /// Some session that does not lead to the owner. Scattered, not in turn: if branches in a fixed
    /// order took turns, an even number of them would meet the same one of two peers each time.
    pub(super) fn other_than(&mut self, owner: Incarnation) -> Option<SessionId> {
        // The constants are those of the finalizer of MurmurHash3.
        self.turn = self.turn.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.turn ^ (self.turn >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        let others = self.attached.iter().filter(|(_, peer)| peer.incarnation != Some(owner));
        let others: Vec<SessionId> = others.map(|(session, _)| *session).collect();
        let count = u64::try_from(others.len()).unwrap_or(u64::MAX).max(1);
        others.get(usize::try_from((mixed >> 32) % count).unwrap_or_default()).copied()
    }
}
