//! I1 and I3: a transfer of two branches is committed if and only if its commit stands in the log,
//! once.
//!
//! A run is far shorter than the retention, so no row may have been forgotten.

use super::View;

pub(super) fn check(view: &mut View<'_>) {
    let mut wrong = Vec::new();
    for key in view.lines.keys() {
        match view.history.decisions.get(*key) {
            Some(decision) if decision.commit => {}
            Some(_) => wrong.push(((*key).to_owned(), "it is committed against the log, which says abort")),
            None => wrong.push(((*key).to_owned(), "I1: it is committed without a row in the log")),
        }
    }
    for (key, decision) in &view.history.decisions {
        if decision.commit && !view.is_in_ledgers(key) {
            wrong.push((key.clone(), "the log says commit, and it is not done"));
        }
    }
    for (key, what) in wrong {
        view.violation(&key, what);
    }
    let strangers = view.history.strangers.iter().filter(|decision| decision.commit);
    let strangers: Vec<String> = strangers
        .map(|decision| format!("the log has a commit that is no transfer of ours: {}", decision.gid))
        .collect();
    view.found.extend(strangers);
}

#[cfg(test)]
mod tests {
    use crate::gauntlet::checker::{History, check, testing::sound};

    fn complains(history: &History, of: &str) -> bool {
        check(history).iter().any(|text| text.contains(of))
    }

    #[test]
    fn a_missing_row_is_caught() {
        let mut history = sound();
        history.decisions.remove("c");
        assert!(complains(&history, "I1"));
    }

    #[test]
    fn a_row_that_says_otherwise_is_caught() {
        let mut history = sound();
        history.decisions.get_mut("c").unwrap().commit = false;
        assert!(complains(&history, "against the log"));
    }

    #[test]
    fn a_commit_that_was_never_done_is_caught() {
        let mut history = sound();
        let stranger = history.decisions["c"];
        history.decisions.insert("a".into(), stranger);
        history.strangers.push(stranger);
        assert!(complains(&history, "not done"));
        assert!(complains(&history, "no transfer of ours"));
    }
}
