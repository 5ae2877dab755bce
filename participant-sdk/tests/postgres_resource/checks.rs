//! What the resource says of its database before it attaches.

use pactum::resource::{PostgresResource, Resource};
use pactum_postgres_server::PostgresServer;

use crate::bank::{Bank, resource, server};

#[tokio::test]
async fn it_says_which_database_it_is_and_whether_it_keeps_markers() {
    let bank = Bank::open().await;
    let before = bank.resource.check().await.unwrap();
    let database = bank.url.rsplit('/').next().unwrap();
    let system = server().psql("postgres", "SELECT system_identifier FROM pg_control_system()").unwrap();
    let told = |name: &str| before.settings.get(name).map(String::as_str);
    assert_eq!((told("max_prepared_transactions"), told("max_connections")), (Some("200"), Some("300")));
    assert_eq!((told("in_recovery"), told("pool_connections")), (Some("false"), Some("4")));
    assert!(told("server_version").is_some() && before.settings.len() <= 32, "{before:?}");
    assert_eq!(before.identity, format!("postgresql:{}/{database}", system.trim()));
    assert!(!before.marker);
    PostgresResource::install(&bank.outside).await.unwrap();
    let after = bank.resource.check().await.unwrap();
    assert_eq!(after.identity, before.identity);
    assert!(after.marker);
}

#[tokio::test]
async fn the_printed_statements_install_as_well() {
    let bank = Bank::open().await;
    bank.run(PostgresResource::install_sql()).await;
    bank.run(PostgresResource::install_sql()).await;
    assert!(bank.resource.check().await.unwrap().marker);
}

#[tokio::test]
async fn a_setting_that_breaks_a_promise_is_named() {
    let server = PostgresServer::start_with(&[("fsync", "off")]).unwrap();
    let bank = Bank::open_on(&server).await;
    let error = bank.resource.check().await.unwrap_err().to_string();
    assert!(error.contains("fsync is off"), "{error}");

    let bank = Bank::open().await;
    let sql = format!(
        "ALTER DATABASE {} SET default_transaction_read_only = on",
        bank.url.rsplit('/').next().unwrap()
    );
    server_psql(&sql);
    let error = resource(&bank.url).check().await.unwrap_err().to_string();
    assert!(error.contains("default_transaction_read_only"), "{error}");
}

fn server_psql(sql: &str) {
    server().psql("postgres", sql).unwrap();
}

#[tokio::test]
async fn missing_rights_on_the_marker_tables_are_named_with_their_grant() {
    let bank = Bank::open_with_marker().await;
    let role = format!("poor_{:08x}", rand::random::<u32>());
    server_psql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'x'"));
    let (_, address) = bank.url.split_once('@').unwrap();
    let poor = resource(&format!("postgres://{role}:x@{address}"));
    let error = poor.check().await.unwrap_err().to_string();
    let (_, grants) = error.split_once("may not use the marker tables: ").unwrap();
    // What it says to do is enough.
    sqlx::raw_sql(sqlx::AssertSqlSafe(grants.to_owned())).execute(&bank.outside).await.unwrap();
    assert!(poor.check().await.unwrap().marker);
    let answer = poor.settle(&bank.branch()).await;
    assert!(matches!(answer, pactum_core::coordinator::RegisterAnswer::Aborted(_)), "{answer:?}");
}

#[tokio::test]
async fn a_witness_without_tables_and_a_floor_without_its_row_are_refused() {
    let bank = Bank::open().await;
    let error = bank.restarted().witnessed().check().await.unwrap_err().to_string();
    assert!(error.contains("install"), "{error}");
    PostgresResource::install(&bank.outside).await.unwrap();
    bank.restarted().witnessed().check().await.unwrap();
    bank.run("DELETE FROM pactum_participant.marker_floor").await;
    let error = bank.resource.check().await.unwrap_err().to_string();
    assert!(error.contains("lost its row"), "{error}");
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_an_error_and_not_a_wait() {
    let unreachable = resource("postgres://nobody:x@127.0.0.1:1/nothing");
    let error = unreachable.check().await.unwrap_err().to_string();
    assert!(error.contains("no connection"), "{error}");
    assert!(!format!("{unreachable:?}").contains("127.0.0.1"), "options hold the password");
}
