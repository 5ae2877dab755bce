//! What a filter means, and what is told to whoever wrote it wrong.

use std::sync::Arc;

use pactum_core::coordinator::{BranchView, TransactionView};
use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use pactum_core::outcome::{BranchOutcome, Details};
use uuid::Uuid;

use super::*;

fn open(phase: Phase, age: u64, outcome: Option<BranchOutcome>) -> Found {
    let id = TransactionId {
        incarnation: Incarnation::from_uuid(Uuid::from_u128(1)),
        gid: Gid::from_uuid(Uuid::from_u128(2)),
    };
    let branch = |number, resource: &str, outcome| BranchView {
        branch: Branch {
            id: BranchId::new(number),
            resource: ResourceName::new(resource).unwrap(),
            instance: InstanceId::NIL,
            marker: false,
        },
        vote: None,
        outcome,
        attempts: 0,
        last_error: None,
    };
    let labels = [("app", "pay"), ("team", "the \"old\" one")];
    let details = Details {
        name: "transfer".into(),
        labels: labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        ..Details::default()
    };
    let view = TransactionView {
        id,
        phase,
        details: Arc::new(details),
        age: Duration::from_secs(age),
        reason: None,
        branches: vec![branch(1, "bank-a", Some(BranchOutcome::Committed)), branch(2, "bank-b", outcome)],
        next_attempt_in: None,
        log_unknown: false,
        held: None,
        own_register: false,
        time_left: None,
    };
    Found { open: Some(view), stored: None }
}

fn holds(filter: &str) -> bool {
    Conditions::parse(filter).unwrap().hold(&open(Phase::Committing, 600, None))
}

#[test]
fn each_condition_holds_of_what_it_names_and_of_nothing_else() {
    let pairs = [
        ("state=committing", "state=aborting"),
        ("state=COMMITTING", "state=undecided"),
        ("in-doubt=true", "in-doubt=false"),
        ("age>5m", "age>1h"),
        ("age<1h", "age<5m"),
        ("name=transfer", "name=transfe"),
        ("resource=bank-b", "resource=bank"),
        ("label.app=pay", "label.app=play"),
        (r#"label.team="the \"old\" one""#, "label.team=the"),
        ("heuristic=none", "heuristic=any"),
        ("", "label.none=x"),
        ("  age>5m   age<1h\tname=transfer ", "age>5m age<6m name=transfer"),
    ];
    for (yes, no) in pairs {
        assert!(holds(yes), "{yes}");
        assert!(!holds(no), "{no}");
    }
}

#[test]
fn a_heuristic_outcome_is_found_by_its_kind_and_by_any() {
    let rolled_back = BranchOutcome::Heuristic(HeuristicOutcome::Aborted);
    let found = open(Phase::Committing, 1, Some(rolled_back));
    let holds = |filter: &str| Conditions::parse(filter).unwrap().hold(&found);
    assert!(holds("heuristic=mixed") && holds("heuristic=any"));
    assert!(!holds("heuristic=hazard") && !holds("heuristic=none"));
}

#[test]
fn finished_ones_are_listed_where_only_they_can_be_meant() {
    let want = |filter: &str| Conditions::parse(filter).unwrap().want_finished();
    assert!(want("state=committed") && want("state=aborted") && want("heuristic=mixed"));
    assert!(!want("state=committing") && !want("heuristic=none") && !want("name=x") && !want(""));
}

#[test]
fn an_open_transaction_is_passed_over_by_its_phase_alone_where_that_decides() {
    let phases = |filter: &str| Conditions::parse(filter).unwrap().phases();
    assert_eq!(phases("name=x age>5m in-doubt=false"), Phases::Any);
    assert_eq!(phases("in-doubt=true"), Phases::InDoubt);
    assert_eq!(phases("in-doubt=true state=preparing"), Phases::One(Phase::Preparing));
    assert_eq!(phases("state=committed"), Phases::None);
}

#[test]
fn what_is_wrong_is_named_with_what_is_known() {
    let cases = [
        ("colour=red", &["\"colour\"", "in-doubt", "label.KEY"][..]),
        ("label.=x", &["\"label.\"", "keys are"]),
        ("state=asleep", &["state", "\"asleep\"", "committing"]),
        ("state>active", &["state=VALUE"]),
        ("in-doubt=maybe", &["in-doubt", "true"]),
        ("age=5m", &["age>TIME"]),
        ("age>soon", &["age", "\"soon\""]),
        ("age>", &["age", "no value"]),
        ("heuristic=odd", &["heuristic", "mixed"]),
        ("transfer", &["\"transfer\"", "KEY=VALUE"]),
        ("name=\"a", &["name", "not closed"]),
        ("name=\"a\"b", &["name", "space"]),
        ("name=\"a\\n\"", &["name", "\\"]),
        ("name=a\"b", &["name", "quote"]),
        ("=x", &["\"\"", "keys are"]),
    ];
    for (filter, told) in cases {
        let error = Conditions::parse(filter).unwrap_err();
        let ServiceError::Malformed { field, problem } = &error else { panic!("{filter}: {error}") };
        assert_eq!(field, "filter", "{filter}");
        for part in told {
            assert!(problem.contains(part), "{filter}: {problem}");
        }
    }
}

#[test]
fn a_filter_that_is_too_long_is_refused_and_a_long_key_is_cut() {
    assert!(Conditions::parse(&format!("name={}", "x".repeat(507))).is_ok());
    assert!(Conditions::parse(&format!("name={}", "x".repeat(508))).is_err());
    let error = Conditions::parse(&format!("{}=1", "é".repeat(200))).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}
