//! What a check asks a coordinator.

use std::collections::BTreeSet;
use std::time::Duration;

use pactum_proto::v1;

use super::Thresholds;
use crate::admin::{Admin, Effect};
use crate::failure::Failure;
use crate::output::view::StatusView;

/// One page is counted; more than this is told as so many at least.
pub(super) const PAGE: u32 = 1000;

/// What is known of a coordinator at one moment.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) status: StatusView,
    /// What it has open and who is attached; why not, where it does not say: without its log it cannot.
    pub(super) open: Result<Open, String>,
}

/// What a coordinator has open, and who is attached.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// Transactions that have been in doubt for longer than the warning's age; at most a page.
    pub(super) old: u64,
    /// Transactions with a branch that may be in doubt; at most a page.
    pub(super) in_doubt: u64,
    /// The age of the oldest of them.
    pub(super) oldest: Duration,
    /// Heuristic outcomes that are kept; at most a page.
    pub(super) heuristics: u64,
    /// Resources with an attached participant.
    pub(super) resources: BTreeSet<String>,
}

impl Facts {
    /// Asks.
    pub(super) async fn ask(admin: &Admin, thresholds: &Thresholds) -> Result<Self, Failure> {
        let mut client = admin.client.clone();
        let info = admin.call(Effect::None, client.get_server_info(v1::GetServerInfoRequest {})).await?;
        let open = Open::ask(admin, thresholds).await.map_err(|failure| failure.line());
        Ok(Self { status: StatusView::from(info), open })
    }
}

impl Open {
    async fn ask(admin: &Admin, thresholds: &Thresholds) -> Result<Self, Failure> {
        let mut client = admin.client.clone();
        let all = list(admin, None).await?;
        // By age on its own: the oldest may lie beyond the first page, which holds the newest.
        let old = list(admin, Some(thresholds.warn_age)).await?;
        let ages = all.iter().chain(&old).filter_map(|found| Duration::try_from(found.age?).ok());
        let oldest = ages.max().unwrap_or_default();
        let request = v1::ListHeuristicsRequest { page_size: PAGE, page_token: String::new() };
        let heuristics = admin.call(Effect::None, client.list_heuristics(request)).await?.heuristics;
        let participants =
            admin.call(Effect::None, client.list_participants(v1::ListParticipantsRequest {})).await?;
        Ok(Self {
            old: old.len() as u64,
            in_doubt: all.len() as u64,
            oldest,
            heuristics: heuristics.len() as u64,
            resources: participants.participants.into_iter().map(|one| one.resource).collect(),
        })
    }
}

async fn list(admin: &Admin, older_than: Option<Duration>) -> Result<Vec<v1::Transaction>, Failure> {
    let mut client = admin.client.clone();
    let request = v1::ListTransactionsRequest {
        page_size: PAGE,
        in_doubt: true,
        older_than: older_than.and_then(|age| age.try_into().ok()),
        ..v1::ListTransactionsRequest::default()
    };
    Ok(admin.call(Effect::None, client.list_transactions(request)).await?.transactions)
}
