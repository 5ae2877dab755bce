//! Who waits for an answer about a branch: as a rule one session, and it costs no memory of its own then.

use std::collections::BTreeSet;

use crate::participant::SessionId;

/// A set of sessions.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Askers {
    /// Nobody.
    #[default]
    None,
    /// One.
    One(SessionId),
    /// Two or more: equal sets are equal values.
    More(BTreeSet<SessionId>),
}

impl Askers {
    pub(super) fn insert(&mut self, session: SessionId) {
        match self {
            Self::None => *self = Self::One(session),
            Self::One(first) if *first == session => {}
            Self::One(first) => *self = Self::More(BTreeSet::from([*first, session])),
            Self::More(sessions) => {
                sessions.insert(session);
            }
        }
    }

    pub(super) fn extend(&mut self, session: Option<SessionId>) {
        if let Some(session) = session {
            self.insert(session);
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }
}

impl IntoIterator for Askers {
    type Item = SessionId;
    type IntoIter = std::iter::Chain<
        std::option::IntoIter<SessionId>,
        std::iter::Flatten<std::option::IntoIter<BTreeSet<SessionId>>>,
    >;

    /// The oldest session first.
    fn into_iter(self) -> Self::IntoIter {
        let (one, more) = match self {
            Self::None => (None, None),
            Self::One(session) => (Some(session), None),
            Self::More(sessions) => (None, Some(sessions)),
        };
        one.into_iter().chain(more.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_one_value_however_it_came_about() {
        let set = |sessions: &[u64]| {
            let mut set = Askers::default();
            for session in sessions {
                set.extend(Some(SessionId(*session)));
            }
            set.extend(None);
            set
        };
        assert!(set(&[]).is_empty());
        assert_eq!(set(&[1, 1]), Askers::One(SessionId(1)));
        assert_eq!(set(&[3, 1, 2, 1]), set(&[1, 2, 3]));
        assert_eq!(set(&[3, 1, 2]).into_iter().collect::<Vec<_>>(), [1, 2, 3].map(SessionId));
        assert_eq!(set(&[7]).into_iter().collect::<Vec<_>>(), [SessionId(7)]);
    }
}
