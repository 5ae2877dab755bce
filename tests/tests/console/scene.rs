//! What the browser looks at: a coordinator with two banks, and transactions that wait for a reason.

use std::sync::atomic::{AtomicI64, Ordering};

use futures::join;
use pactum::Transaction;
use pactum_coordinator::Config;
use pactum_proto::v1;
use pactum_proto::v1::admin_service_client::AdminServiceClient;
use pactum_tests::bank::{ACCOUNTS, Bank, Entry, Teller as _};
use pactum_tests::cluster::{self, Cluster};
use pactum_tests::faults::{Cut, Proxy};
use pactum_tests::history::{TIMEOUT, fresh_key};
use pactum_tests::postgres;
use pactum_tests::wait::eventually;

/// A coordinator and two banks, of which one can lose its database.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) a: Bank,
    pub(crate) b: Bank,
    pub(crate) database: Proxy,
    /// How many transactions were begun: each takes an account of its own, or they would wait for each
    /// other's locks.
    begun: AtomicI64,
}

impl Scene {
    pub(crate) async fn start() -> Self {
        Self::start_with(cluster::config()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let cluster = Cluster::start_on(&postgres::database(postgres::shared(), "log"), config).await;
        let a = cluster.bank("bank-a").await;
        let (b, database) = cluster.bank_behind_proxy("bank-b", false).await;
        Self { cluster, a, b, database, begun: AtomicI64::new(0) }
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.coordinator.admin_url()
    }

    /// Begins a transaction, with work at both banks, that nobody has asked to commit. Its labels are
    /// those of somebody who means no good.
    pub(crate) async fn undecided(&self, pactum: &pactum::Pactum) -> (Transaction, String) {
        let begin = pactum
            .begin()
            .name("transfer")
            .label("app", "pay")
            .label("note", "\"><script>document.title='owned'</script>")
            .timeout(TIMEOUT);
        let (tx, key) = (begin.await.unwrap(), fresh_key());
        let account = (self.begun.fetch_add(1, Ordering::Relaxed) % ACCOUNTS).to_string();
        self.a.apply(tx.context(), &Entry::new(&key, &account, -1)).await.unwrap();
        self.b.apply(tx.context(), &Entry::new(&key, &account, 1)).await.unwrap();
        let gid = tx.id().gid.to_string();
        (tx, gid)
    }

    /// A transaction whose commit is decided while bank-b has no database: it stays prepared there.
    pub(crate) async fn in_doubt(&self) -> String {
        let pactum = self.cluster.application().await;
        let (tx, gid) = self.undecided(&pactum).await;
        self.database.arm(Cut::Outage, "COMMIT PREPARED");
        let (outcome, ()) = join!(async { tx.commit().wait_decision().await }, self.database.fired(1));
        assert!(outcome.unwrap().is_committed());
        let admin = AdminServiceClient::connect(self.url()).await.unwrap();
        let inspect = v1::InspectTransactionRequest { gid: gid.clone(), examine: false };
        eventually("a failed attempt", || {
            let (mut admin, inspect) = (admin.clone(), inspect.clone());
            async move {
                let shown = admin.inspect_transaction(inspect).await.ok()?.into_inner().transaction?;
                shown.branches.iter().any(|branch| !branch.last_error.is_empty()).then_some(())
            }
        })
        .await;
        gid
    }

    /// Bank-b has its database again.
    pub(crate) fn mend(&self) {
        self.database.refuse(false);
    }
}
