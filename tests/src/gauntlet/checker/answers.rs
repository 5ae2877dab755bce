//! I6 and AC2: what an application was told is what happened; whoever asked later heard the same;
//! and what was unknown has exactly one answer, which the ledgers bear out.

use super::{Settled, View, definite};

pub(super) fn check(view: &mut View<'_>) {
    let mut wrong = Vec::new();
    for transfer in &view.history.transfers {
        let (key, done) = (&transfer.key, view.is_in_ledgers(&transfer.key));
        let told = definite(transfer.told);
        if let Some(committed) = told
            && committed != done
        {
            wrong.push((key, "I6: its application was told what is not so"));
        }
        if transfer.told_later.iter().any(|later| definite(Some(*later)).is_some_and(|later| later != done)) {
            wrong.push((key, "AC2: who asked later was told what is not so"));
        }
        if !transfer.asked && done {
            wrong.push((key, "nobody asked to commit it, and it is committed"));
        }
        match view.history.settled.get(key) {
            Some(Settled::Committed) if !done => {
                wrong.push((key, "it is said to be committed at the end, and is not"));
            }
            Some(Settled::Aborted | Settled::NoRecord) if done => {
                wrong.push((key, "it is committed, and that is denied at the end"));
            }
            None if told.is_none() && transfer.asked && transfer.id.is_some() => {
                wrong.push((key, "nobody asked what became of it: the check is incomplete"));
            }
            _ => {}
        }
    }
    for (key, what) in wrong.into_iter().map(|(key, what)| (key.clone(), what)).collect::<Vec<_>>() {
        view.violation(&key, what);
    }
}

#[cfg(test)]
mod tests {
    use crate::gauntlet::checker::{History, Settled, check, testing::sound};
    use crate::gauntlet::journal::Told;

    fn complains(history: &History, of: &str) -> bool {
        check(history).iter().any(|text| text.contains(of))
    }

    #[test]
    fn a_lie_either_way_is_caught() {
        for (place, told) in [(0, Told::Aborted), (0, Told::Refused), (2, Told::Committed)] {
            let mut history = sound();
            history.transfers[place].told = Some(told);
            assert!(complains(&history, "I6"), "{told:?}");
        }
    }

    #[test]
    fn a_later_contradiction_is_caught() {
        let mut history = sound();
        history.transfers[0].told_later = vec![Told::Committed, Told::Aborted];
        assert!(complains(&history, "AC2"));
    }

    #[test]
    fn a_wrong_answer_at_the_end_is_caught() {
        for (key, settled) in [("d", Settled::Aborted), ("d", Settled::NoRecord), ("u", Settled::Committed)] {
            let mut history = sound();
            history.settled.insert(key.into(), settled);
            assert!(complains(&history, "at the end"), "{key} {settled:?}");
        }
    }

    #[test]
    fn a_commit_that_nobody_asked_for_is_caught() {
        let mut history = sound();
        history.transfers[1].asked = false;
        assert!(complains(&history, "nobody asked to commit"));
    }
}
