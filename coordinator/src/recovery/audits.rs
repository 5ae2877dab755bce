//! Acts of operators that a coordinator died over, and heuristic outcomes that turned out well: looked
//! for on a period, for the coordinator's life.
//!
//! An act falls to one of the living by its number, as commits do. Two who see different sets may both
//! complete one: each looks for an end before it writes one, so that two ends need both to look before
//! either has written. Then both stand, each true of its moment, and readers take the first.

use std::time::Duration;

use pactum_core::id::{Gid, Incarnation};
use pactum_core::rendezvous;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::Membership;
use crate::journal::chain;
use crate::service::admin::Admin;

/// Completes acts, and clears what agrees, while we have an incarnation.
pub(crate) async fn complete_for_ever(
    admin: Admin,
    members: watch::Receiver<Option<Membership>>,
    period: Duration,
) {
    let mut looks = interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        looks.tick().await;
        let Some(Membership { own, live }) = members.borrow().clone() else { continue };
        let falls_to_us = |number: u64| winner(number, live.iter().copied()) == Some(own);
        let mut done = admin.complete_acts(falls_to_us).await;
        if done.is_ok() && falls_to_us(0) {
            done = admin.clear_agreeing().await;
        }
        // Told once: the next look tries again.
        if let (Err(error), false) = (&done, failed) {
            tracing::warn!(error = %chain(error), "acts that were begun elsewhere cannot be looked at yet");
        }
        failed = done.is_err();
    }
}

/// To whom an entry of the audit falls.
fn winner(number: u64, live: impl Iterator<Item = Incarnation>) -> Option<Incarnation> {
    rendezvous::winner(Gid::from_uuid(Uuid::from_u128(u128::from(number))), live)
}
