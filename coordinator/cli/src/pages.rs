//! The page of each public error, as `pactum explain` shows it: what it means, when it comes, what is
//! sure, what to do with exact commands. Part of the program, so that it is at hand when nothing else is.

use pactum_proto::error::ErrorCode;

/// A page of the folder `pages/`.
macro_rules! page {
    ($number:literal) => {
        include_str!(concat!("../pages/PACTUM-", $number, ".md"))
    };
}

/// The page: plain text of at most 78 columns. Its first line is the code and the reason, its second
/// one sentence.
pub(crate) fn page(code: ErrorCode) -> &'static str {
    // A code without a page does not compile.
    match code {
        ErrorCode::InvalidArgument => page!("0001"),
        ErrorCode::Starting => page!("0002"),
        ErrorCode::Draining => page!("0003"),
        ErrorCode::LogUnavailable => page!("0004"),
        ErrorCode::Overloaded => page!("0005"),
        ErrorCode::Forgotten => page!("0006"),
        ErrorCode::AlreadyCommitted => page!("0007"),
        ErrorCode::TooOldToStart => page!("0008"),
        ErrorCode::NotOwner => page!("0009"),
        ErrorCode::CommitAlreadyAsked => page!("0010"),
        ErrorCode::TransactionEnded => page!("0011"),
        ErrorCode::BranchDiffers => page!("0012"),
        ErrorCode::RequestDiffers => page!("0013"),
        ErrorCode::TooManyBranches => page!("0014"),
        ErrorCode::NoRecord => page!("0015"),
        ErrorCode::TransactionNotFound => page!("0016"),
        ErrorCode::AmbiguousGid => page!("0017"),
        ErrorCode::OutcomeUnknown => page!("0018"),
        ErrorCode::StreamSuperseded => page!("0019"),
        ErrorCode::StreamTooSlow => page!("0020"),
        ErrorCode::TooManyParticipants => page!("0021"),
        ErrorCode::Internal => page!("0022"),
        ErrorCode::PlanChanged => page!("0023"),
        ErrorCode::NothingToDo => page!("0024"),
        ErrorCode::CommitAheadOfDecision => page!("0025"),
        ErrorCode::AgreesWithDecision => page!("0026"),
        ErrorCode::BranchMayBePrepared => page!("0027"),
        ErrorCode::ParticipantSilent => page!("0028"),
        ErrorCode::Unauthenticated => page!("0029"),
        ErrorCode::ConfigInvalid => page!("0030"),
        ErrorCode::UnsafeAddress => page!("0031"),
        ErrorCode::LogUnreachable => page!("0032"),
        ErrorCode::LogSettingRefused => page!("0033"),
        ErrorCode::SchemaNotReady => page!("0034"),
        ErrorCode::LogInUse => page!("0035"),
        ErrorCode::AddressInUse => page!("0036"),
        ErrorCode::CannotConnect => page!("0037"),
        ErrorCode::TimedOut => page!("0038"),
        ErrorCode::LogCorrupt => page!("0039"),
        ErrorCode::ConfirmationNeeded => page!("0040"),
        ErrorCode::DemoFailed => page!("0041"),
        ErrorCode::PostgresMissing => page!("0042"),
        ErrorCode::PermissionDenied => page!("0043"),
        ErrorCode::BranchNotPrepared => page!("0044"),
        ErrorCode::InQuarantine => page!("0045"),
        ErrorCode::AuditBroken => page!("0046"),
    }
}

/// The sentence at its head.
pub(crate) fn sentence(code: ErrorCode) -> &'static str {
    page(code).lines().nth(1).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    const SECTIONS: [&str; 5] = ["What it means", "When it comes", "What is sure", "What to do", "See also"];

    #[test]
    fn every_page_is_of_its_code_has_its_sections_and_fits_a_terminal() {
        for &code in ErrorCode::ALL {
            let page = page(code);
            assert_eq!(page.lines().next(), Some(format!("{}  {}", code.code(), code.reason()).as_str()));
            assert!(sentence(code).ends_with('.'), "{code}: {}", sentence(code));
            let titles: Vec<_> = page.lines().filter(|line| SECTIONS.contains(line)).collect();
            assert_eq!(titles, SECTIONS, "{code}");
            for section in page.split("\n\n").filter(|part| SECTIONS.iter().any(|it| part.starts_with(it))) {
                assert!(
                    section.lines().nth(1).is_some_and(|line| line.starts_with("  ")),
                    "{code}: {section}"
                );
            }
            for line in page.lines() {
                assert!(line.chars().count() <= 78 && line.trim_end() == line, "{code}: {line}");
            }
        }
    }

    #[test]
    fn no_page_is_left_over() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pages");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let wanted = ErrorCode::ALL.iter().map(|code| format!("{}.md", code.code())).collect();
        assert_eq!(there, wanted);
    }

    #[test]
    fn pages_refer_to_codes_that_exist() {
        for &code in ErrorCode::ALL {
            for part in page(code).split("PACTUM-").skip(1) {
                let number: String = part.chars().take_while(char::is_ascii_digit).collect();
                assert!(number.parse::<ErrorCode>().is_ok(), "{code} refers to {number}");
            }
        }
    }

    /// A page whose commands do not exist helps nobody at night.
    #[test]
    fn every_command_on_a_page_can_be_typed() {
        let mut count = 0;
        for &code in ErrorCode::ALL {
            for line in page(code).lines().filter_map(|line| line.trim().strip_prefix("$ pactum ")) {
                let words = words(line);
                let typed = std::iter::once("pactum".to_owned()).chain(words);
                if let Err(error) = Cli::command().try_get_matches_from(typed) {
                    use clap::error::ErrorKind;
                    assert!(
                        matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion),
                        "{code}: {line}\n{error}"
                    );
                }
                count += 1;
            }
        }
        assert!(count > 80, "no command was read: {count}");
    }

    /// The words of a line; quotes hold one together. An ellipsis stands for other options.
    fn words(line: &str) -> Vec<String> {
        let parts = line.split('"').enumerate();
        parts
            .flat_map(|(index, part)| -> Vec<String> {
                if index % 2 == 1 {
                    vec![part.to_owned()]
                } else {
                    part.split_whitespace().filter(|word| *word != "...").map(str::to_owned).collect()
                }
            })
            .collect()
    }
}
