//! A log and a bank in PostgreSQL, decisions written as a coordinator writes them, and branches prepared as the
//! SDK prepares them; no coordinator runs.

use std::process::Output;
use std::sync::Arc;

use pactum_coordinator::decision_log::{AuditEntry, AuditPage, DecisionLog, HeuristicRecord, Proposal};
use pactum_coordinator::open_log;
use pactum_core::id::{
    Branch, BranchId, Gid, Incarnation, InstanceId, PreparedName, ResourceName, TransactionId,
};
use pactum_core::outcome::{DecidedBranch, Decision, DecisionRecord, LookUpResult, ProposalResult};
use pactum_core::vote::{AbortKind, AbortReason, Evidence};
use pactum_postgres_server::PostgresServer;
use uuid::Uuid;

use crate::support::{assert_exit, run, stdout};

/// What every test of these starts from.
pub(crate) struct Scene {
    pub(crate) server: PostgresServer,
    /// The log's own server, where it is to be stopped.
    pub(crate) log_server: Option<PostgresServer>,
    pub(crate) log_url: String,
    pub(crate) bank_url: String,
    pub(crate) log: Arc<dyn DecisionLog>,
    /// A coordinator that started and has ended, or lives.
    pub(crate) owner: Incarnation,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    /// One server for both.
    pub(crate) fn new() -> Self {
        let server = PostgresServer::start().unwrap();
        let log_url = server.create_database("log").unwrap();
        Self::on(server, None, log_url)
    }

    /// A server for each.
    pub(crate) fn apart() -> Self {
        let log_server = PostgresServer::start().unwrap();
        let log_url = log_server.create_database("log").unwrap();
        Self::on(PostgresServer::start().unwrap(), Some(log_server), log_url)
    }

    fn on(server: PostgresServer, log_server: Option<PostgresServer>, log_url: String) -> Self {
        let bank_url = server.create_database("bank").unwrap();
        server.psql("bank", "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)").unwrap();
        server.psql("bank", "INSERT INTO account SELECT n, 100 FROM generate_series(1, 20) n").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (log, owner) = runtime.block_on(async {
            let log = open_log(&log_url).await.unwrap();
            let owner = log.start_incarnation("127.0.0.1:7600").await.unwrap();
            (log, owner)
        });
        Self { server, log_server, log_url, bank_url, log, owner, runtime }
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The owner stops, as in an orderly stop or a takeover.
    pub(crate) fn owner_ends(&self) {
        self.wait(self.log.end_incarnation(self.owner)).unwrap();
    }

    /// A name for a new transaction's branch.
    pub(crate) fn name(&self) -> PreparedName {
        self.name_of(Gid::from_uuid(Uuid::now_v7()), 1)
    }

    pub(crate) fn name_of(&self, gid: Gid, branch: u64) -> PreparedName {
        PreparedName {
            cluster: self.log.cluster().clone(),
            id: TransactionId { incarnation: self.owner, gid },
            branch: BranchId::new(branch),
        }
    }

    /// Takes 10 from that account, and prepares it under the name.
    pub(crate) fn prepare(&self, name: &PreparedName, account: u32) {
        let sql = format!(
            "BEGIN; UPDATE account SET balance = balance - 10 WHERE id = {account}; PREPARE TRANSACTION '{name}'"
        );
        self.server.psql("bank", &sql).unwrap();
    }

    /// The evidence that a vote for what is prepared there would carry.
    pub(crate) fn evidence(&self, name: &PreparedName) -> Evidence {
        let sql = format!(
            "SELECT transaction || ' ' || (SELECT system_identifier FROM pg_control_system()) || '/' \
                    || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) || '/' || pg_current_wal_flush_lsn() \
               FROM pg_prepared_xacts WHERE gid = '{name}'"
        );
        let told = self.server.psql("bank", &sql).unwrap();
        let (xid, anchor) = told.trim().split_once(' ').unwrap();
        Evidence::new(xid, anchor)
    }

    pub(crate) fn branch(name: &PreparedName) -> Branch {
        Branch {
            id: name.branch,
            resource: ResourceName::new("bank-a").unwrap(),
            instance: InstanceId::from_uuid(Uuid::from_u128(7)),
            marker: false,
        }
    }

    /// Decides commit, of what is prepared now.
    pub(crate) fn decide_commit(&self, name: &PreparedName) {
        let decided = DecidedBranch { branch: Self::branch(name), evidence: self.evidence(name) };
        let record = DecisionRecord {
            id: name.id,
            decision: Decision::Commit,
            reason: None,
            branches: Arc::new([decided]),
            details: Arc::default(),
        };
        self.write(record, 1);
    }

    pub(crate) fn decide_abort(&self, name: &PreparedName) {
        let reason = AbortReason::new(AbortKind::VotedNo, "bank-b had too little");
        self.write(DecisionRecord::abort(name.id, reason), 0);
    }

    fn write(&self, record: DecisionRecord, number: u64) {
        let results = self.wait(async {
            let mut writer = self.log.open_writer().await.unwrap();
            writer.write(self.owner, &[Proposal { record, number }]).await
        });
        assert_eq!(results, [ProposalResult::Won]);
    }

    /// What stands in the log.
    pub(crate) fn decision(&self, name: &PreparedName) -> Option<DecisionRecord> {
        match self.wait(self.log.look_up(&[name.id.gid])).unwrap().pop().unwrap() {
            LookUpResult::Stands(record) => Some(*record),
            LookUpResult::NoRecord => None,
            other @ (LookUpResult::Forgotten | LookUpResult::Unknown) => panic!("{other:?}"),
        }
    }

    pub(crate) fn heuristics(&self, name: &PreparedName) -> Vec<HeuristicRecord> {
        self.wait(self.log.heuristics(&[name.id.gid])).unwrap()
    }

    pub(crate) fn audit(&self) -> Vec<AuditEntry> {
        self.wait(self.log.audit(AuditPage::After(0), 1000)).unwrap()
    }

    /// Each entry as `kind act`, oldest first.
    pub(crate) fn audited(&self) -> Vec<String> {
        let entries = self.audit();
        entries.iter().map(|entry| format!("{} {}", entry.draft.kind.name(), entry.draft.act)).collect()
    }

    pub(crate) fn is_prepared(&self, name: &PreparedName) -> bool {
        let sql = format!("SELECT count(*) FROM pg_prepared_xacts WHERE gid = '{name}'");
        self.server.psql("bank", &sql).unwrap().trim() == "1"
    }

    pub(crate) fn balance(&self, account: u32) -> i64 {
        let sql = format!("SELECT balance FROM account WHERE id = {account}");
        self.server.psql("bank", &sql).unwrap().trim().parse().unwrap()
    }

    /// The command on this bank and this log.
    pub(crate) fn pactum(&self, args: &[&str]) -> Output {
        run(&self.args(args))
    }

    pub(crate) fn args<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let (verb, rest) = args.split_first().unwrap();
        let places = ["--database", &self.bank_url, "--log", &self.log_url];
        [&["branch", verb], &places[..], rest].concat()
    }

    /// `branch finish` without questions.
    pub(crate) fn finish(&self, args: &[&str]) -> Output {
        self.pactum(&[&["finish", "--yes", "--reason", "no coordinator left"], args].concat())
    }

    /// The list, by name.
    pub(crate) fn list(&self) -> Vec<serde_json::Value> {
        let output = self.pactum(&["list", "-o", "json"]);
        assert_exit(&output, 0);
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        json["branches"].as_array().unwrap().clone()
    }

    /// What the list says of one branch: the log's word, and what would be done.
    pub(crate) fn says(&self, name: &PreparedName) -> (String, String) {
        let list = self.list();
        let row = list.iter().find(|row| row["name"] == name.to_string()).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&row["log"]["says"]), text(&row["finish"]["does"]))
    }
}
