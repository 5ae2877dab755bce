//! The claims about the audit.

use pactum_core::id::Incarnation;
use uuid::Uuid;

use super::{Log, started};
use crate::decision_log::audit::{AUDIT_TEXT_BYTES_MAX, verify};
use crate::decision_log::{AuditDraft, AuditEntry, AuditKind, AuditPage, DecisionLogError};

/// The beginning of an act by a coordinator.
pub fn beginning(incarnation: Option<Incarnation>, target: &str) -> AuditDraft {
    AuditDraft {
        kind: AuditKind::Begun,
        begun: None,
        who: "ops".into(),
        origin: "127.0.0.1:40312 grpc".into(),
        act: "resolve".into(),
        target: target.into(),
        reason: "bank-a is gone for good".into(),
        plan: "closes it with abort".into(),
        before: "{\"state\":\"in doubt\"}".into(),
        after: String::new(),
        result: String::new(),
        incarnation,
    }
}

/// The end of the act that `begun` is the beginning of.
pub fn end(begun: &AuditEntry, kind: AuditKind) -> AuditDraft {
    AuditDraft {
        kind,
        begun: Some(begun.number),
        after: "{\"state\":\"aborted\"}".into(),
        result: "aborted".into(),
        ..begun.draft.clone()
    }
}

async fn append(log: &Log, draft: AuditDraft) -> AuditEntry {
    log.append_audit(&draft).await.expect("an entry is added")
}

async fn all(log: &Log) -> Vec<AuditEntry> {
    log.audit(AuditPage::After(0), 1000).await.expect("the audit is read")
}

/// Whoever adds at the same time, the entries are one chain, and each reads back as it was answered.
///
/// # Panics
/// If the claim does not hold; so do all that follow.
pub async fn audit_entries_added_at_once_are_one_chain(log: Log) {
    let (own, _) = started(&log).await;
    let mut adding = tokio::task::JoinSet::new();
    for n in 0..8 {
        let log = Log::clone(&log);
        adding.spawn(async move {
            let mut added = Vec::new();
            for kind in AuditKind::ALL {
                let begun = append(&log, beginning(Some(own), &format!("{n} {}", kind.name()))).await;
                if kind != AuditKind::Begun {
                    added.push(append(&log, end(&begun, kind)).await);
                }
                added.push(begun);
            }
            added
        });
    }
    let mut added: Vec<AuditEntry> = adding.join_all().await.into_iter().flatten().collect();
    added.sort_by_key(|entry| entry.number);
    let found = all(&log).await;
    assert_eq!(found, added);
    assert_eq!(found.iter().map(|entry| entry.number).collect::<Vec<_>>(), (1..=72).collect::<Vec<_>>());
    assert_eq!(verify(found.iter(), None), Ok(()));
}

/// Every text comes back letter by letter; one that not every database can hold, as what is hashed.
///
/// # Panics
/// If the claim does not hold.
pub async fn an_audit_entry_reads_back_with_all_that_it_says(log: Log) {
    let odd = "für \u{1f980}\n\t'\"\\ {} % \u{fffd}";
    let (own, _) = started(&log).await;
    let full = AuditDraft {
        who: odd.into(),
        origin: format!("1{odd}"),
        act: format!("2{odd}"),
        target: format!("3{odd}"),
        reason: format!("4{odd}"),
        plan: "x".repeat(AUDIT_TEXT_BYTES_MAX),
        before: format!("5{odd}"),
        ..beginning(Some(own), "")
    };
    let first = append(&log, full.clone()).await;
    assert_eq!(first.draft, full);
    let ended = AuditDraft { result: "a\0b".into(), ..end(&first, AuditKind::Failed) };
    let second = append(&log, ended.clone()).await;
    assert_eq!(second.draft, AuditDraft { result: "a\u{fffd}b".into(), ..ended });
    let third = append(&log, beginning(None, "by a command")).await;
    let found = all(&log).await;
    assert_eq!(found, [first, second, third]);
    assert_eq!(verify(found.iter(), None), Ok(()));
}

/// Pages go both ways and meet.
///
/// # Panics
/// If the claim does not hold.
pub async fn the_audit_is_paged_both_ways(log: Log) {
    assert_eq!(all(&log).await, []);
    for n in 1..=5 {
        append(&log, beginning(None, &n.to_string())).await;
    }
    let page = async |page, limit| -> Vec<u64> {
        let found = log.audit(page, limit).await.expect("the audit is read");
        found.iter().map(|entry| entry.number).collect()
    };
    assert_eq!(page(AuditPage::After(0), 2).await, [1, 2]);
    assert_eq!(page(AuditPage::After(2), 2).await, [3, 4]);
    assert_eq!(page(AuditPage::After(4), 2).await, [5]);
    assert_eq!(page(AuditPage::After(5), 2).await, [0; 0]);
    assert_eq!(page(AuditPage::After(u64::MAX), 2).await, [0; 0]);
    assert_eq!(page(AuditPage::Before(None), 2).await, [5, 4]);
    assert_eq!(page(AuditPage::Before(Some(4)), 2).await, [3, 2]);
    assert_eq!(page(AuditPage::Before(Some(2)), 2).await, [1]);
    assert_eq!(page(AuditPage::Before(Some(1)), 2).await, [0; 0]);
    assert_eq!(page(AuditPage::Before(Some(u64::MAX)), 2).await, [5, 4]);
    assert_eq!(page(AuditPage::Before(None), 0).await, [0; 0]);
}

/// What tells too little or too much is refused before anything happens, and leaves no gap.
///
/// # Panics
/// If the claim does not hold.
pub async fn an_audit_entry_that_cannot_be_kept_is_refused(log: Log) {
    let begun = append(&log, beginning(None, "1")).await;
    let good = beginning(None, "2");
    let ended = end(&begun, AuditKind::Done);
    for bad in [
        AuditDraft { who: String::new(), ..good.clone() },
        AuditDraft { act: String::new(), ..good.clone() },
        AuditDraft { begun: Some(1), ..good.clone() },
        AuditDraft { begun: None, ..ended.clone() },
        AuditDraft { begun: Some(0), ..ended.clone() },
        AuditDraft { begun: Some(u64::MAX), ..ended.clone() },
        AuditDraft { plan: "x".repeat(AUDIT_TEXT_BYTES_MAX + 1), ..good.clone() },
    ] {
        let refused = log.append_audit(&bad).await.expect_err("it is no entry");
        assert!(matches!(refused, DecisionLogError::Refused { .. }), "{refused}");
    }
    assert_eq!(append(&log, ended).await.number, 2);
    assert_eq!(append(&log, good).await.number, 3);
}

/// An act is without an end if its coordinator is gone and nobody wrote what became of it.
///
/// # Panics
/// If the claim does not hold.
pub async fn acts_that_a_dead_coordinator_had_begun_are_found(log: Log) {
    let (dead, _) = started(&log).await;
    let (own, _) = started(&log).await;
    let nobody = Incarnation::from_uuid(Uuid::from_u128(0xdead));
    let left = append(&log, beginning(Some(dead), "left")).await;
    let ended = append(&log, beginning(Some(dead), "ended")).await;
    append(&log, beginning(Some(own), "still at it")).await;
    append(&log, beginning(None, "by a command")).await;
    let rowless = append(&log, beginning(Some(nobody), "its start was lost")).await;
    append(&log, end(&ended, AuditKind::Refused)).await;
    let unended = async || log.unended_audits().await.expect("they are read");
    assert_eq!(unended().await, std::slice::from_ref(&rowless), "one that lives may still end it");
    log.end_incarnation(dead).await.expect("an incarnation ends");
    assert_eq!(unended().await, [left.clone(), rowless.clone()]);
    append(&log, AuditDraft { incarnation: Some(own), ..end(&left, AuditKind::Found) }).await;
    assert_eq!(unended().await, [rowless]);
}

/// Beginnings without an end come oldest first, in bounded number.
///
/// # Panics
/// If the claim does not hold.
pub async fn many_acts_without_an_end_come_oldest_first_and_not_all(log: Log) {
    let (dead, _) = started(&log).await;
    for n in 1..=101 {
        append(&log, beginning(Some(dead), &n.to_string())).await;
    }
    log.end_incarnation(dead).await.expect("an incarnation ends");
    let found = log.unended_audits().await.expect("they are read");
    assert_eq!(found.iter().map(|entry| entry.number).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    append(&log, end(&found[0], AuditKind::Found)).await;
    let found = log.unended_audits().await.expect("they are read");
    assert_eq!((found[0].number, found[99].number), (2, 101));
}
