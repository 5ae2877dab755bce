//! The two headers, as text: what travels with a call and what comes back.
//!
//! `pactum-context: <incarnation>-<gid>-<milliseconds left>` names the transaction that a call
//! is part of; `pactum-enlisted: <branch>:<resource>:<instance>:<0|1>, …` names the branches
//! that enlisted while it was served. Both are read strictly: one spelling each, bounded in
//! length and in count, so that what a stranger sends costs nothing and nothing is guessed.
//! A header that is not understood is an error, never "no transaction": work done outside the
//! transaction that the caller believes it to be inside would survive an abort.
//!
//! This file knows neither clocks nor who sends the headers.

use std::fmt::Write as _;
use std::time::Duration;

use pactum_core::id::{Branch, BranchId, Gid, Incarnation, InstanceId, ResourceName, TransactionId};
use uuid::Uuid;

/// The request header's name.
pub const CONTEXT_HEADER: &str = "pactum-context";

/// The response header's name.
pub const ENLISTED_HEADER: &str = "pactum-enlisted";

/// Most branches of one transaction, as the coordinator bounds them.
pub const BRANCHES_MAX: usize = 64;

/// The longest time left that a context may carry: a transaction's timeout is at most this.
pub const TIME_LEFT_MAX: Duration = Duration::from_hours(1);

/// Longest request header: two names of 32 digits, and 3600000.
const CONTEXT_BYTES_MAX: usize = 32 + 1 + 32 + 1 + 7;

/// Longest entry of the response header: branch, resource, instance, flag, and their colons.
const ENTRY_BYTES_MAX: usize = 16 + 1 + ResourceName::BYTES_MAX + 1 + 32 + 1 + 1;

/// Longest response header that is read: every entry at its longest, with `", "` after it.
const ENLISTED_BYTES_MAX: usize = (BRANCHES_MAX + 1) * (ENTRY_BYTES_MAX + 2);

/// Stands in the response header beside the branches if there may be more of them: a call
/// further down got no answer, so what enlisted there is not known here.
const MORE: &str = "more";

/// Stands in the response header if more than [`BRANCHES_MAX`] enlisted.
const TOO_MANY: &str = "too-many";

/// A header that does not have its form. Nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {header} is malformed: {rule}")]
pub struct HeaderError {
    /// Which header.
    pub header: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
}

/// What a response says of the branches that enlisted while it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnlistedHeader {
    /// The branches known.
    pub(crate) branches: Vec<Branch>,
    /// Whether there may be others.
    pub(crate) more: bool,
    /// Whether there were too many to name.
    pub(crate) too_many: bool,
}

/// Writes the request header. Less than a millisecond left is written as 0.
pub(crate) fn format_context(id: &TransactionId, time_left: Duration) -> String {
    let time_left = time_left.min(TIME_LEFT_MAX);
    format!("{}-{}-{}", id.incarnation.as_uuid().simple(), id.gid.as_uuid().simple(), time_left.as_millis())
}

/// Reads the request header.
pub(crate) fn parse_context(text: &str) -> Result<(TransactionId, Duration), HeaderError> {
    let malformed = |rule| HeaderError { header: CONTEXT_HEADER, rule };
    if text.len() > CONTEXT_BYTES_MAX {
        return Err(malformed("at most 73 characters are allowed"));
    }
    let mut parts = text.split('-');
    let (Some(incarnation), Some(gid), Some(millis), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed("<incarnation>-<gid>-<milliseconds left> is needed"));
    };
    let incarnation = parse_uuid(incarnation)
        .ok_or_else(|| malformed("the incarnation must be 32 lower-case hexadecimal digits, not all zero"))?;
    let gid = parse_uuid(gid)
        .ok_or_else(|| malformed("the gid must be 32 lower-case hexadecimal digits, not all zero"))?;
    let millis = parse_millis(millis)
        .ok_or_else(|| malformed("the milliseconds left must be 0 to 3600000, without leading zeros"))?;
    let id = TransactionId { incarnation: Incarnation::from_uuid(incarnation), gid: Gid::from_uuid(gid) };
    Ok((id, Duration::from_millis(millis)))
}

/// Writes the response header; `None` if there is nothing to say.
pub(crate) fn format_enlisted(enlisted: &EnlistedHeader) -> Option<String> {
    let mut text = String::with_capacity(enlisted.branches.len() * 64);
    let separate = |text: &mut String| {
        if !text.is_empty() {
            text.push(',');
        }
    };
    if enlisted.too_many {
        return Some(TOO_MANY.to_owned());
    }
    for branch in &enlisted.branches {
        separate(&mut text);
        let marker = u8::from(branch.marker);
        let instance = branch.instance.as_uuid().simple();
        // Writing to a string cannot fail.
        write!(text, "{}:{}:{instance}:{marker}", branch.id, branch.resource).ok();
    }
    if enlisted.more {
        separate(&mut text);
        text.push_str(MORE);
    }
    if text.is_empty() { None } else { Some(text) }
}

/// Reads one line of the response header. Blanks around entries are allowed, since proxies
/// that join lines put them there; empty entries are not.
pub(crate) fn parse_enlisted(text: &str) -> Result<EnlistedHeader, HeaderError> {
    let malformed = |rule| HeaderError { header: ENLISTED_HEADER, rule };
    if text.len() > ENLISTED_BYTES_MAX {
        return Err(malformed("it is longer than 64 branches can be"));
    }
    let mut enlisted = EnlistedHeader::default();
    for entry in text.split(',') {
        match entry.trim_matches([' ', '\t']) {
            MORE => enlisted.more = true,
            TOO_MANY => enlisted.too_many = true,
            entry => {
                let branch = parse_branch(entry)
                    .ok_or_else(|| malformed("<branch>:<resource>:<instance>:<0|1> is needed"))?;
                if enlisted.branches.len() == BRANCHES_MAX {
                    return Err(malformed("at most 64 branches are allowed"));
                }
                enlisted.branches.push(branch);
            }
        }
    }
    Ok(enlisted)
}

/// Whether the text is a W3C `traceparent` of version 00. One that is not is dropped, as the
/// recommendation (*Trace Context*, section 3.2.4) demands: it has no say in anything.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let named = |part: &str, digits| hex(part, digits) && part.bytes().any(|byte| byte != b'0');
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    match parts[..] {
        [version, trace, span, flags] => {
            version == "00" && named(trace, 32) && named(span, 16) && hex(flags, 2)
        }
        _ => false,
    }
}

fn parse_branch(entry: &str) -> Option<Branch> {
    let mut parts = entry.split(':');
    let (id, resource, instance, marker) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some(Branch {
        id: id.parse::<BranchId>().ok()?,
        resource: ResourceName::new(resource).ok()?,
        instance: InstanceId::from_uuid(parse_uuid(instance)?),
        marker: match marker {
            "0" => false,
            "1" => true,
            _ => return None,
        },
    })
}

/// Exactly 32 lower-case digits, and not the nil value, which names nothing.
fn parse_uuid(text: &str) -> Option<Uuid> {
    let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let uuid = if plain { Uuid::try_parse(text).ok()? } else { return None };
    (!uuid.is_nil()).then_some(uuid)
}

/// Decimal digits in their one spelling, up to [`TIME_LEFT_MAX`].
fn parse_millis(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let millis: u64 = if plain { text.parse().ok()? } else { return None };
    (u128::from(millis) <= TIME_LEFT_MAX.as_millis()).then_some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: &str = "0199c3d0aaaa70008000000000000001-0199c3d0bbbb70008000000000000002-1500";
    const BRANCH: &str = "00000000000000ab:bank-a:0199c3d0cccc70008000000000000003:1";

    fn branch(number: u64, marker: bool) -> Branch {
        Branch {
            id: BranchId::new(number),
            resource: ResourceName::new("bank-a").unwrap(),
            instance: InstanceId::from_uuid(Uuid::from_u128(0x0199_c3d0_cccc_7000_8000_0000_0000_0003)),
            marker,
        }
    }

    #[test]
    fn a_context_reads_back_as_itself() {
        let (id, left) = parse_context(CONTEXT).unwrap();
        assert_eq!(left, Duration::from_millis(1500));
        assert_eq!(format_context(&id, left), CONTEXT);
        // More than a transaction may have is cut; less than a millisecond is none.
        for (left, text) in [(Duration::from_hours(2), "3600000"), (Duration::from_micros(999), "0")] {
            let header = format_context(&id, left);
            assert!(header.ends_with(&format!("-{text}")), "{header}");
            assert!(parse_context(&header).is_ok());
        }
    }

    #[test]
    fn a_context_in_any_other_spelling_is_refused() {
        let nil = "0".repeat(32);
        let (incarnation, rest) = CONTEXT.split_once('-').unwrap();
        let (gid, _) = rest.split_once('-').unwrap();
        let bad = [
            String::new(),
            "-".into(),
            "--".into(),
            format!("{CONTEXT}-"),
            format!(" {CONTEXT}"),
            format!("{CONTEXT} "),
            format!("{CONTEXT}\n"),
            CONTEXT.to_uppercase(),
            format!("{incarnation}-{gid}"),
            format!("{incarnation}-{gid}-"),
            format!("{incarnation}-{gid}-01"),
            format!("{incarnation}-{gid}-+1"),
            format!("{incarnation}-{gid}--1"),
            format!("{incarnation}-{gid}-1.5"),
            format!("{incarnation}-{gid}-0x10"),
            format!("{incarnation}-{gid}-3600001"),
            format!("{incarnation}-{gid}-99999999999999999999999"),
            format!("{incarnation}-{gid}-\u{0661}"),
            format!("{nil}-{gid}-1"),
            format!("{incarnation}-{nil}-1"),
            format!("{}-{gid}-1", &incarnation[1..]),
            format!("{incarnation}0-{gid}-1"),
            format!("{}g-{gid}-1", &incarnation[1..]),
            format!("{incarnation}-{}-1", Uuid::from_u128(7).hyphenated()),
            format!("{{{incarnation}}}-{gid}-1"),
            "x".repeat(100_000),
        ];
        for text in bad {
            assert!(parse_context(&text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn every_change_of_one_byte_is_refused_or_reads_back_as_itself() {
        for position in 0..CONTEXT.len() {
            for byte in 0..=0x7f_u8 {
                let mut bytes = CONTEXT.as_bytes().to_vec();
                bytes[position] = byte;
                let text = String::from_utf8(bytes).unwrap();
                if let Ok((id, left)) = parse_context(&text) {
                    assert_eq!(format_context(&id, left), text);
                }
            }
        }
        for position in 0..BRANCH.len() {
            for byte in 0..=0x7f_u8 {
                let mut bytes = BRANCH.as_bytes().to_vec();
                bytes[position] = byte;
                let text = String::from_utf8(bytes).unwrap();
                if let Ok(enlisted) = parse_enlisted(&text) {
                    let trimmed = text.trim_matches([' ', '\t']);
                    assert_eq!(format_enlisted(&enlisted).as_deref(), Some(trimmed));
                }
            }
        }
    }

    #[test]
    fn enlisted_branches_read_back_as_themselves() {
        let one = EnlistedHeader { branches: vec![branch(0xab, true)], ..Default::default() };
        assert_eq!(format_enlisted(&one).unwrap(), BRANCH);
        let two = EnlistedHeader {
            branches: vec![branch(1, true), branch(u64::MAX, false)],
            more: true,
            too_many: false,
        };
        assert_eq!(parse_enlisted(&format_enlisted(&two).unwrap()).unwrap(), two);
        assert_eq!(format_enlisted(&EnlistedHeader::default()), None);
        // A proxy may have joined two lines.
        let joined = parse_enlisted(&format!("{BRANCH}, \tmore ,{BRANCH}")).unwrap();
        assert_eq!((joined.branches.len(), joined.more), (2, true));
        let full = EnlistedHeader {
            branches: (0..64).map(|number| branch(number, false)).collect(),
            ..Default::default()
        };
        assert_eq!(parse_enlisted(&format_enlisted(&full).unwrap()).unwrap(), full);
    }

    #[test]
    fn enlisted_branches_in_any_other_spelling_are_refused() {
        let bad = [
            String::new(),
            ",".into(),
            format!("{BRANCH},"),
            format!(",{BRANCH}"),
            format!("{BRANCH};{BRANCH}"),
            format!("{BRANCH}:1"),
            format!("{BRANCH}0"),
            BRANCH.replace(":1", ":2"),
            BRANCH.replace(":1", ""),
            BRANCH.replace("00000000000000ab", "ab"),
            BRANCH.replace("00000000000000ab", "00000000000000AB"),
            BRANCH.replace("bank-a", ""),
            BRANCH.replace("bank-a", "bank a"),
            BRANCH.replace("bank-a", &"a".repeat(65)),
            BRANCH.replace("0199c3d0cccc70008000000000000003", ""),
            BRANCH.replace("0199c3d0cccc70008000000000000003", &"0".repeat(32)),
            "More".into(),
            vec![BRANCH; 65].join(","),
            vec!["more"; 5000].join(","),
        ];
        for text in bad {
            assert!(parse_enlisted(&text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn only_a_well_formed_traceparent_travels() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good));
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        ] {
            assert!(!is_traceparent(bad), "{bad:?} was taken");
        }
    }
}
