//! The auditor: reads both databases, past the services, and checks that they agree.

use std::time::Duration;

use anyhow::{bail, ensure};
use sqlx::PgPool;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Both databases.
#[derive(Clone, Debug)]
pub(crate) struct Books {
    pub(crate) inventory: PgPool,
    pub(crate) ledger: PgPool,
}

/// What they hold in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sums {
    /// On hand and reserved: no order changes it.
    pub(crate) goods: i64,
    /// In accounts and charged, in cents: no order changes it.
    pub(crate) money: i64,
    /// Orders with a reservation, in order.
    pub(crate) reserved: Vec<String>,
    /// Orders with a charge, in order.
    pub(crate) charged: Vec<String>,
    /// Branches that are prepared and not ended, in both databases.
    pub(crate) in_doubt: i64,
}

impl Books {
    /// Counts everything.
    pub(crate) async fn sums(&self) -> sqlx::Result<Sums> {
        let number = async |database: &PgPool, query: &'static str| {
            sqlx::query_scalar::<_, i64>(query).fetch_one(database).await
        };
        let goods = "SELECT ((SELECT sum(on_hand) FROM items)
                     + (SELECT coalesce(sum(quantity), 0) FROM reservations))::bigint";
        let money = "SELECT ((SELECT sum(balance) FROM accounts)
                     + (SELECT coalesce(sum(amount), 0) FROM charges))::bigint";
        let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
        let orders = async |database: &PgPool, query: &'static str| {
            sqlx::query_scalar::<_, String>(query).fetch_all(database).await
        };
        Ok(Sums {
            goods: number(&self.inventory, goods).await?,
            money: number(&self.ledger, money).await?,
            reserved: orders(&self.inventory, "SELECT order_id FROM reservations ORDER BY 1").await?,
            charged: orders(&self.ledger, "SELECT order_id FROM charges ORDER BY 1").await?,
            in_doubt: number(&self.inventory, prepared).await? + number(&self.ledger, prepared).await?,
        })
    }

    /// Waits until somebody has locked that item.
    pub(crate) async fn item_locked(&self, item: &str, patience: Duration) -> anyhow::Result<()> {
        // A lock that keeps nobody from anything for longer than this statement.
        let look = "SELECT id FROM items WHERE id = $1 FOR SHARE SKIP LOCKED";
        let until = Instant::now() + patience;
        let mut ticks = interval(Duration::from_millis(5));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() < until {
            ticks.tick().await;
            let free: Option<String> =
                sqlx::query_scalar(look).bind(item).fetch_optional(&self.inventory).await?;
            if free.is_none() {
                return Ok(());
            }
        }
        bail!("nobody has locked {item}")
    }

    /// Checks that both databases agree, and that they hold what these orders were told.
    pub(crate) async fn check(&self, before: &Sums, accepted: &[String]) -> anyhow::Result<Sums> {
        let after = self.sums().await?;
        ensure!(after.goods == before.goods, "goods were {} and are {}", before.goods, after.goods);
        ensure!(after.money == before.money, "money was {} and is {}", before.money, after.money);
        ensure!(after.reserved == after.charged, "reserved and charged differ: {after:?}");
        ensure!(after.reserved == accepted, "{accepted:?} were accepted, and recorded: {:?}", after.reserved);
        ensure!(after.in_doubt == 0, "{} branches are in doubt", after.in_doubt);
        Ok(after)
    }
}
