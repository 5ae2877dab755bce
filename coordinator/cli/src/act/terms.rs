//! The options of an act: why, whether to ask first, whether only to look. Three sets, by how much
//! can be lost: what is harmless never asks; what breaks no decision may be told not to ask by a
//! variable; what goes against a decision, or takes a safeguard away, must be told on the line itself.

use clap::Args;
use pactum_proto::error::ErrorCode;

use crate::failure::Failure;
use crate::output::Output;

/// The wire's limit.
pub(crate) const REASON_BYTES_MAX: usize = 512;

/// On which terms an act is done.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(super) reason: String,
    pub(super) dry_run: bool,
    /// Whether the person is asked first.
    pub(super) asks: bool,
}

/// Options of an act that can do no harm.
#[derive(Debug, Args)]
pub(crate) struct Lightly {
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    reason: String,
    /// Show the plan and do nothing; ends with 6 if it would be refused
    #[arg(long)]
    dry_run: bool,
}

/// Options of an act that breaks no decision.
#[derive(Debug, Args)]
pub(crate) struct Usually {
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Do not ask
    #[arg(short, long, env = "PACTUM_YES")]
    yes: bool,
    /// Show the plan and do nothing; ends with 6 if it would be refused
    #[arg(long)]
    dry_run: bool,
}

/// Options of an act against a decision, or that takes a safeguard away.
#[derive(Debug, Args)]
pub(crate) struct Strictly {
    /// Why; kept in the audit
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Do not ask. No variable says this: it stands on the line, or is typed
    #[arg(short, long)]
    yes: bool,
    /// Show the plan and do nothing; ends with 6 if it would be refused
    #[arg(long)]
    dry_run: bool,
}

impl Lightly {
    /// Checked.
    pub(crate) fn terms(self) -> Result<Terms, Failure> {
        Terms { reason: self.reason, dry_run: self.dry_run, asks: false }.checked()
    }
}

impl Usually {
    /// Checked; `stdin_taken` if the ids came that way, so that no answer can.
    pub(crate) fn terms(self, output: &Output, stdin_taken: bool) -> Result<Terms, Failure> {
        Terms { reason: self.reason.unwrap_or_default(), dry_run: self.dry_run, asks: !self.yes }
            .askable(output, stdin_taken)
    }
}

impl Strictly {
    /// Checked.
    pub(crate) fn terms(self, output: &Output) -> Result<Terms, Failure> {
        Terms { reason: self.reason.unwrap_or_default(), dry_run: self.dry_run, asks: !self.yes }
            .askable(output, false)
    }
}

impl Terms {
    fn askable(mut self, output: &Output, stdin_taken: bool) -> Result<Self, Failure> {
        if self.dry_run {
            self.asks = false;
        }
        if self.asks && (stdin_taken || !output.can_ask()) {
            return Err(Failure::usage("this asks before it acts, and nobody is there to answer")
                .code(ErrorCode::ConfirmationNeeded)
                .next("add --yes if you are sure, or --dry-run to see the plan"));
        }
        self.checked()
    }

    fn checked(self) -> Result<Self, Failure> {
        let is_empty = self.reason.trim().is_empty();
        if (is_empty && !self.dry_run) || self.reason.len() > REASON_BYTES_MAX {
            return Err(Failure::usage(format!("--reason must be 1 to {REASON_BYTES_MAX} bytes"))
                .next("say in a few words why; whoever reads the audit later will want to know"));
        }
        Ok(self)
    }
}
