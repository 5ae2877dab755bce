//! Which of the prepared branches somebody means.

use pactum_core::id::{Gid, PreparedName};
use pactum_proto::error::ErrorCode;

use super::plan::Known;
use super::scan::Prepared;
use crate::exit::Exit;
use crate::failure::Failure;

/// Fewer digits fit too much.
const DIGITS_MIN: usize = 4;

/// What somebody typed: a gid or a part of it, or a whole database-side name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// One branch.
    Name(PreparedName),
    /// Every branch here of a transaction.
    Gid(Gid),
    /// The beginning or the end of a gid.
    Part(String),
}

impl Meant {
    /// Reads it.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        if let Ok(name) = text.parse() {
            return Ok(Self::Name(name));
        }
        if let Ok(gid) = text.parse() {
            return Ok(Self::Gid(gid));
        }
        let digits: String = text.chars().filter(|c| *c != '-').collect::<String>().to_lowercase();
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex && (DIGITS_MIN..32).contains(&digits.len()) {
            return Ok(Self::Part(digits));
        }
        Err(Failure::usage(format!("{text:?} is no gid, no part of one, and no name of a branch")).next(
            "give the gid, its beginning or its end (at least 4 digits), or the name, as pactum branch list -o json shows it",
        ))
    }

    fn fits(&self, name: &PreparedName) -> bool {
        match self {
            Self::Name(meant) => meant == name,
            Self::Gid(gid) => *gid == name.id.gid,
            Self::Part(digits) => {
                let whole = name.id.gid.as_uuid().simple().to_string();
                whole.starts_with(digits.as_str()) || whole.ends_with(digits.as_str())
            }
        }
    }

    /// The places of the branches that are meant: none, or those of one transaction.
    pub(super) fn among(&self, found: &[(Prepared, Known)]) -> Result<Vec<usize>, Failure> {
        let fits =
            |(place, (branch, _)): (usize, &(Prepared, Known))| self.fits(&branch.name).then_some(place);
        let places: Vec<usize> = found.iter().enumerate().filter_map(fits).collect();
        let mut gids: Vec<Gid> = places.iter().map(|place| found[*place].0.name.id.gid).collect();
        gids.sort_unstable();
        gids.dedup();
        if gids.len() > 1 {
            let named: Vec<String> = gids.iter().take(8).map(ToString::to_string).collect();
            return Err(Failure::new(Exit::Refused, format!("{self} fits {} transactions", gids.len()))
                .cause(named.join(", "))
                .code(ErrorCode::AmbiguousGid));
        }
        Ok(places)
    }
}

impl std::fmt::Display for Meant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Gid(gid) => gid.fmt(f),
            Self::Part(digits) => f.write_str(digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_meant_by_its_name_its_gid_or_a_part_of_that() {
        let name: PreparedName =
            "pactum:c:00000000000000000000000000000001:0199c3d0000070008000000000000002:0000000000000003"
                .parse()
                .unwrap();
        for text in [
            name.to_string().as_str(),
            "0199c3d0-0000-7000-8000-000000000002",
            "0199c3d0000070008000000000000002",
            "0199",
            "0199C3D0-0000",
            "00000002",
        ] {
            assert!(Meant::parse(text).unwrap().fits(&name), "{text}");
        }
        assert!(!Meant::parse("0003").unwrap().fits(&name));
        for text in ["", "019", "xyzw", "pactum:c:1:2:3", "0199'"] {
            assert!(Meant::parse(text).is_err(), "{text}");
        }
    }
}
