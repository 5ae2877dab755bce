//! The contract suite, on three ways to set the resource up.

use pactum::resource::{BeginOptions, BranchContext, NoVote, PostgresResource};
use pactum::testing::{self, Fixture};
use pactum_core::coordinator::Operation;

use crate::bank::{Bank, resource};

struct Ledger {
    bank: Bank,
    witnessed: bool,
}

fn key_of(payload: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(payload.try_into().ok()?))
}

impl Fixture for Ledger {
    type Resource = PostgresResource;

    async fn restart(&self) -> PostgresResource {
        let resource = resource(&self.bank.url)
            .operation("credit", |bank, payload| {
                Box::pin(async move {
                    let key = key_of(&payload).ok_or_else(|| NoVote::new("no key"))?;
                    sqlx::query("INSERT INTO ledger (key) VALUES ($1)").bind(key).execute(bank).await?;
                    Ok(())
                })
            })
            .operation("refuse", |_, _| Box::pin(async { Err(NoVote::new("insufficient funds")) }));
        if self.witnessed { resource.witnessed() } else { resource }
    }

    async fn work(
        &self,
        resource: &PostgresResource,
        branch: &BranchContext,
        key: u64,
    ) -> Result<(), String> {
        let mut work =
            testing::begin(resource, branch, BeginOptions::new()).await.map_err(|error| error.to_string())?;
        crate::bank::write(&mut work, key.cast_signed()).await;
        work.enlist().await.map_err(|error| error.to_string())
    }

    async fn count(&self, key: u64) -> Result<u64, String> {
        Ok(u64::from(self.bank.sees(key.cast_signed()).await))
    }

    fn operation(&self, key: u64) -> Option<Operation> {
        Some(Operation { name: "credit".into(), payload: key.to_le_bytes().into() })
    }

    fn refused_operation(&self) -> Option<Operation> {
        Some(Operation { name: "refuse".into(), payload: [].into() })
    }
}

/// [C2, C4, C10, H3]
#[tokio::test]
async fn the_contract_holds() {
    let bank = Bank::open().await;
    let checked = testing::contract(&Ledger { bank, witnessed: false }).await.unwrap();
    assert_eq!(checked.len(), 23, "{checked:?}");
}

/// [H5]
#[tokio::test]
async fn the_contract_holds_with_marker_tables() {
    let bank = Bank::open_with_marker().await;
    let checked = testing::contract(&Ledger { bank, witnessed: false }).await.unwrap();
    assert_eq!(checked.len(), 26, "{checked:?}");
}
