//! How prepared branches look to scripts and to people.

use jiff::Timestamp;
use serde::Serialize;

use super::plan::{Known, Plan};
use super::scan::Prepared;
use crate::output::table::{age, render, short_gid, table};

/// A prepared branch as scripts read it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BranchView {
    name: String,
    cluster: String,
    incarnation: String,
    pub(super) gid: String,
    branch: String,
    database: String,
    /// Decimal, 64 bits.
    xid: String,
    xid_age: i64,
    owner: String,
    prepared_at: Option<Timestamp>,
    age_ms: u64,
    locks: Vec<LockView>,
    blocks: Vec<WaiterView>,
    log: SaysView,
    finish: DoesView,
}

#[derive(Clone, Debug, Serialize)]
struct LockView {
    relation: String,
    mode: String,
}

#[derive(Clone, Debug, Serialize)]
struct WaiterView {
    pid: i32,
    user: String,
    application: String,
    waits_for: String,
    waiting_ms: Option<u64>,
    directly: bool,
}

#[derive(Clone, Debug, Serialize)]
struct SaysView {
    says: &'static str,
    sentence: String,
}

/// What would be done with it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DoesView {
    pub(super) does: &'static str,
    pub(super) sentence: String,
    /// Why it would be left alone.
    code: Option<String>,
    next: Option<String>,
}

impl From<&Plan> for DoesView {
    fn from(plan: &Plan) -> Self {
        let refusal = match plan {
            Plan::Leave(refusal) => Some(refusal),
            Plan::AsDecided(_) | Plan::Close | Plan::ByHand { .. } => None,
        };
        Self {
            does: plan.name(),
            sentence: plan.sentence(),
            code: refusal.map(|refusal| refusal.code.code()),
            next: refusal.map(|refusal| refusal.next.clone()),
        }
    }
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl BranchView {
    /// With what would be done.
    pub(super) fn new(database: &str, branch: &Prepared, known: &Known, plan: &Plan) -> Self {
        let Prepared { name, .. } = branch;
        Self {
            name: name.to_string(),
            cluster: name.cluster.to_string(),
            incarnation: name.id.incarnation.to_string(),
            gid: name.id.gid.to_string(),
            branch: name.branch.to_string(),
            database: database.to_owned(),
            xid: branch.xid.to_string(),
            xid_age: branch.xid_age,
            owner: branch.owner.clone(),
            prepared_at: branch.prepared_at,
            age_ms: milliseconds(branch.age),
            locks: branch
                .locks
                .iter()
                .map(|lock| LockView { relation: lock.relation.clone(), mode: lock.mode.clone() })
                .collect(),
            blocks: branch
                .blocks
                .iter()
                .map(|waiter| WaiterView {
                    pid: waiter.pid,
                    user: waiter.user.clone(),
                    application: waiter.application.clone(),
                    waits_for: waiter.waits_for.clone(),
                    waiting_ms: waiter.waiting.map(milliseconds),
                    directly: waiter.directly,
                })
                .collect(),
            log: SaysView {
                says: known.word.name(known.execution),
                sentence: known.word.sentence(known.execution),
            },
            finish: plan.into(),
        }
    }

    /// Names the branch and its state, without what changes by itself: for the audit.
    pub(super) fn state(&self) -> String {
        serde_json::json!({
            "name": self.name, "database": self.database, "xid": self.xid, "owner": self.owner,
            "state": "prepared", "log": self.log.says,
        })
        .to_string()
    }
}

/// The list for people, with who waits beneath it.
pub(super) fn page(rows: &[(Prepared, Known, Plan)], several_clusters: bool) -> String {
    let mut branches =
        table(["TRANSACTION", "BRANCH", "AGE", "OWNER", "XIDS", "LOCKS", "BLOCKS", "THE LOG SAYS", "FINISH"]);
    for (branch, known, plan) in rows {
        let mut gid = short_gid(branch.name.id.gid);
        if several_clusters {
            gid = format!("{}:{gid}", branch.name.cluster);
        }
        branches.add_row([
            gid,
            branch.name.branch.to_string(),
            age(branch.age),
            branch.owner.clone(),
            branch.xid_age.to_string(),
            branch.locks.len().to_string(),
            branch.blocks.len().to_string(),
            known.word.sentence(known.execution),
            plan.sentence(),
        ]);
    }
    let mut page = render(&branches);
    let waiting: Vec<_> = rows
        .iter()
        .flat_map(|(branch, _, _)| branch.blocks.iter().map(move |waiter| (branch, waiter)))
        .collect();
    if !waiting.is_empty() {
        let mut waiters = table(["WAITS FOR", "PID", "USER", "APPLICATION", "FOR", "AT"]);
        for (branch, waiter) in waiting {
            waiters.add_row([
                short_gid(branch.name.id.gid),
                waiter.pid.to_string(),
                waiter.user.clone(),
                waiter.application.clone(),
                waiter.waiting.map(age).unwrap_or_default(),
                if waiter.directly {
                    waiter.waits_for.clone()
                } else {
                    format!("{}, behind others", waiter.waits_for)
                },
            ]);
        }
        page = format!("{page}\n\n{}", render(&waiters));
    }
    page
}
