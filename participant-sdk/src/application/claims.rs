//! Which coordinators the given addresses lead to, so that no two streams are kept to one.
//!
//! Two addresses of one coordinator would be asked in turn as if they were two: the incarnation in the
//! Welcome shows it, and the later one waits in reserve until the stream of the other is lost. A learned
//! address claims nothing: it is given up wherever another leads to the same (`members.rs`).

use std::collections::BTreeSet;

use pactum_core::id::Incarnation;
use tokio::sync::watch;

/// What the given addresses lead to. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Claims(watch::Sender<BTreeSet<Incarnation>>);

impl Default for Claims {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeSet::new()))
    }
}

impl Claims {
    /// Takes the coordinator; `None` if another address has it.
    pub(super) fn take(&self, incarnation: Incarnation) -> Option<Claim> {
        let taken = self.0.send_if_modified(|taken| taken.insert(incarnation));
        taken.then(|| Claim { claims: self.clone(), incarnation })
    }

    /// Waits until no other address has it.
    pub(super) async fn free(&self, incarnation: Incarnation) {
        let mut taken = self.0.subscribe();
        if taken.wait_for(|taken| !taken.contains(&incarnation)).await.is_err() {
            // The sender lives in what we hold ourselves.
            std::future::pending::<()>().await;
        }
    }
}

/// One address leads to one coordinator, as long as this lives.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    pub(super) incarnation: Incarnation,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.send_if_modified(|taken| taken.remove(&self.incarnation));
    }
}

#[cfg(test)]
mod tests {
    use pactum_core::id::Incarnation;
    use uuid::Uuid;

    use super::Claims;

    #[test]
    fn one_address_has_a_coordinator_until_its_claim_is_dropped() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (one, two) = (Incarnation::from_uuid(one), Incarnation::from_uuid(two));
        let claims = Claims::default();
        let claim = claims.take(one).unwrap();
        assert_eq!(claim.incarnation, one);
        assert!(claims.take(one).is_none());
        assert!(claims.take(two).is_some(), "another coordinator is free");
        drop(claim);
        assert!(claims.take(one).is_some());
    }
}
