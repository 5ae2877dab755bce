//! How lengths of time and moments look in tables.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::table;
use crate::args::TimeForm;

/// The form that was asked for, and the moment that ages count back from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    form: Option<TimeForm>,
    now: Timestamp,
}

impl Times {
    /// In that form; without one, ages are relative and moments are in ISO 8601.
    pub(crate) fn new(form: Option<TimeForm>, now: Timestamp) -> Self {
        Self { form, now }
    }

    /// Something that began that long ago.
    pub(crate) fn age(self, ms: u64) -> String {
        let began =
            i64::try_from(ms).ok().and_then(|ms| self.now.checked_sub(SignedDuration::from_millis(ms)).ok());
        match (self.form.unwrap_or(TimeForm::Relative), began) {
            (TimeForm::Iso, Some(began)) => format!("{began:.0}"),
            (TimeForm::Unix, Some(began)) => began.as_second().to_string(),
            (TimeForm::Relative | TimeForm::Iso | TimeForm::Unix, _) => length(ms),
        }
    }

    /// A moment.
    pub(crate) fn moment(self, at: Timestamp) -> String {
        match self.form.unwrap_or(TimeForm::Iso) {
            TimeForm::Iso => format!("{at:.0}"),
            TimeForm::Unix => at.as_second().to_string(),
            TimeForm::Relative => {
                let since = self.now.duration_since(at);
                match Duration::try_from(since) {
                    Ok(since) => format!("{} ago", table::age(since)),
                    // The log's clock is ahead of ours.
                    Err(_ahead) => format!("in {}", table::age(since.unsigned_abs())),
                }
            }
        }
    }
}

/// A length of time: the same in every form.
pub(crate) fn length(ms: u64) -> String {
    table::age(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_look_as_asked_for() {
        let now: Timestamp = "2026-01-31T02:41:18.152Z".parse().unwrap();
        let before: Timestamp = "2026-01-31T02:35:06.152Z".parse().unwrap();
        for (form, age, moment) in [
            (None, "6m12s", "2026-01-31T02:35:06Z"),
            (Some(TimeForm::Relative), "6m12s", "6m12s ago"),
            (Some(TimeForm::Iso), "2026-01-31T02:35:06Z", "2026-01-31T02:35:06Z"),
            (Some(TimeForm::Unix), "1769826906", "1769826906"),
        ] {
            let times = Times::new(form, now);
            assert_eq!((times.age(372_000).as_str(), times.moment(before).as_str()), (age, moment));
        }
        assert_eq!(Times::new(Some(TimeForm::Relative), before).moment(now), "in 6m12s");
        assert_eq!(Times::new(Some(TimeForm::Iso), now).age(u64::MAX), length(u64::MAX), "before all time");
    }
}
