//! Numbers, names and times in the form that people read.

use std::time::Duration;

use super::sessions::hex;

/// A length of time with two units at most: `340 ms`, `4.2 s`, `6 m 12 s`, `3 h 5 m`, `2 d 4 h`.
pub(super) fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    let two = |first: u64, one: &str, second: u64, other: &str| {
        if second == 0 { format!("{first} {one}") } else { format!("{first} {one} {second} {other}") }
    };
    match seconds {
        0 => format!("{} ms", length.as_millis()),
        1..60 => format!("{}.{} s", seconds, length.subsec_millis() / 100),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// The same of a message's; one that is missing, or negative, is empty.
pub(super) fn age(length: Option<prost_types::Duration>) -> String {
    length.and_then(|length| Duration::try_from(length).ok()).map(duration).unwrap_or_default()
}

/// A short length of time, where less than a millisecond counts.
pub(super) fn latency(length: Option<prost_types::Duration>) -> String {
    let Some(length) = length.and_then(|length| Duration::try_from(length).ok()) else {
        return String::new();
    };
    if length < Duration::from_millis(100) {
        format!("{}.{:02} ms", length.as_millis(), length.subsec_micros() % 1000 / 10)
    } else {
        duration(length)
    }
}

/// A point in time, to the millisecond, in UTC.
pub(super) fn time(at: Option<prost_types::Timestamp>) -> String {
    at.map(|mut at| {
        at.nanos -= at.nanos % 1_000_000;
        at.to_string().replace('T', " ").replace('Z', " UTC")
    })
    .unwrap_or_default()
}

/// A point in time in microseconds since 1970.
pub(super) fn time_of_microseconds(microseconds: i64) -> String {
    let nanos = microseconds.rem_euclid(1_000_000) * 1000;
    time(Some(prost_types::Timestamp {
        seconds: microseconds.div_euclid(1_000_000),
        nanos: i32::try_from(nanos).unwrap_or(0),
    }))
}

/// A name of 16 bytes, whole.
pub(super) fn id(bytes: &[u8]) -> String {
    uuid::Uuid::from_slice(bytes).map_or_else(|_other| hex(bytes), |id| id.hyphenated().to_string())
}

/// A branch within its transaction.
pub(super) fn branch(id: u64) -> String {
    format!("{id:016x}")
}

/// The same where there is little room. Its end tells two apart, its beginning tells the time.
pub(super) fn short(id: &str) -> String {
    match (id.get(..6), id.get(id.len().saturating_sub(6)..)) {
        (Some(first), Some(last)) if id.is_ascii() && id.len() > 16 => format!("{first}…{last}"),
        _ => id.to_owned(),
    }
}

/// `1 branch`, `2 branches`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units_at_most() {
        let cases = [
            (Duration::from_micros(900), "0 ms"),
            (Duration::from_millis(340), "340 ms"),
            (Duration::from_millis(4250), "4.2 s"),
            (Duration::from_mins(1), "1 m"),
            (Duration::from_secs(372), "6 m 12 s"),
            (Duration::from_secs(3 * 3600 + 5 * 60 + 59), "3 h 5 m"),
            (Duration::from_hours(52), "2 d 4 h"),
        ];
        for (length, text) in cases {
            assert_eq!(duration(length), text);
        }
    }

    #[test]
    fn points_in_time_are_told_in_utc_to_the_millisecond() {
        assert_eq!(time_of_microseconds(1_795_269_678_152_999), "2026-11-21 14:01:18.152 UTC");
        assert_eq!(time(None), "");
    }

    #[test]
    fn a_long_name_is_cut_in_the_middle_and_nothing_else_is() {
        assert_eq!(short("0199c3aabbccddeeff00112233447f2a"), "0199c3…447f2a");
        for whole in ["", "abc", "ééééééééééééééééééé"] {
            assert_eq!(short(whole), whole);
        }
    }
}
