//! A bank in PostgreSQL: ordinary SQL on an ordinary connection. `PREPARE TRANSACTION` and all
//! that follows is the SDK's.

use std::error::Error;

use pactum::Context;
use pactum::resource::PostgresResource;
use sqlx::postgres::PgPoolOptions;

use super::ChangeError;
use crate::exit::Exit;
use crate::failure::Failure;

/// A bank in PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct PostgresBank {
    resource: PostgresResource,
}

/// A CHECK constraint does not hold: the account would be overdrawn.
const CHECK_VIOLATION: &str = "23514";

impl PostgresBank {
    pub(super) async fn open(name: &str, url: &str, connections: u32) -> Result<Self, Failure> {
        let failed = |error: &(dyn Error + 'static)| {
            Failure::new(Exit::CannotConnect, format!("{name} cannot use its database")).because(error)
        };
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .connect(url)
            .await
            .map_err(|error| failed(&error))?;
        let resource = PostgresResource::new(name, pool).map_err(|error| failed(&error))?;
        Ok(Self { resource })
    }

    /// What takes part for it.
    pub(super) fn resource(&self) -> PostgresResource {
        self.resource.clone()
    }

    /// Changes an account within a transaction.
    pub(super) async fn change(
        &self,
        context: &Context,
        account: i64,
        amount: i64,
    ) -> Result<(), ChangeError> {
        let mut branch = self.resource.begin(context).await.map_err(|error| not_now(&error))?;
        let updated = sqlx::query("UPDATE accounts SET balance = balance + $1 WHERE id = $2")
            .bind(amount)
            .bind(account)
            .execute(&mut *branch)
            .await;
        // Dropped without being enlisted, the branch rolls back.
        match updated {
            Ok(done) if done.rows_affected() == 1 => {}
            Ok(_) => return Err(ChangeError::Refused(format!("there is no account {account}"))),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(CHECK_VIOLATION) => {
                return Err(ChangeError::Refused(format!("account {account} holds less than {}", -amount)));
            }
            Err(error) => return Err(not_now(&error)),
        }
        branch.enlist().await.map_err(|error| not_now(&error))
    }
}

fn not_now(error: &(dyn Error + 'static)) -> ChangeError {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    ChangeError::NotNow(text)
}
