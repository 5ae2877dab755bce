//! Settings, schema and roles.

use std::sync::Arc;

use pactum_coordinator::decision_log::contract::{commit, gid};
use pactum_coordinator::decision_log::postgres::{self, PostgresLog, PostgresLogOptions};
use pactum_coordinator::decision_log::{DecisionLog as _, DecisionLogError};
use pactum_core::outcome::ProposalResult;
use pactum_postgres_server::PostgresServer;

use crate::fixture::{Fixture, new_database, open, server};

#[tokio::test]
async fn settings_that_could_lose_a_commit_are_refused_by_name() {
    let refused_setting =
        async |url: &str| match PostgresLog::open(PostgresLogOptions::from_url(url).unwrap()).await {
            Err(DecisionLogError::Refused { setting, found, remedy }) => {
                assert!(!remedy.is_empty());
                (setting, found)
            }
            other => panic!("{other:?}"),
        };
    let server = PostgresServer::start().unwrap();
    let url = server.create_database("log").unwrap();
    drop(open(&url).await);
    server.psql("postgres", "ALTER DATABASE log SET synchronous_commit = off").unwrap();
    assert_eq!(refused_setting(&url).await, ("synchronous_commit", "off".into()));
    server.psql("postgres", "ALTER DATABASE log SET synchronous_commit = local").unwrap();
    drop(open(&url).await);
    server.set("synchronous_standby_names", "nobody").unwrap();
    assert_eq!(refused_setting(&url).await, ("synchronous_commit", "local".into()));
    server
        .psql("postgres", "SET synchronous_commit = local; ALTER DATABASE log RESET synchronous_commit")
        .unwrap();
    server.set("synchronous_standby_names", "").unwrap();
    for setting in ["full_page_writes", "fsync"] {
        server.set(setting, "off").unwrap();
        assert_eq!(refused_setting(&url).await, (setting, "off".into()));
        server.set(setting, "on").unwrap();
    }
    drop(open(&url).await);
}

#[tokio::test]
async fn isolation_and_search_path_preset_for_the_database_do_not_reach_the_log() {
    let fixture = Fixture::new().await;
    let name = fixture.url.rsplit('/').next().unwrap();
    for preset in ["default_transaction_isolation = 'serializable'", "search_path = 'nowhere'"] {
        server().psql("postgres", &format!("ALTER DATABASE {name} SET {preset}")).unwrap();
    }
    let (own, mut writer) = fixture.started().await;
    assert_eq!(writer.write(own, &[commit(own, gid(1), 1)]).await, [ProposalResult::Won]);
}

#[tokio::test]
async fn a_schema_that_the_role_may_not_make_is_not_ready_and_says_what_to_run() {
    let url = new_database();
    let name = url.rsplit('/').next().unwrap();
    let sql = format!("CREATE ROLE serving_{name} LOGIN PASSWORD 'serving'");
    server().psql(name, &sql).unwrap();
    let serving = format!("postgres://serving_{name}:serving@127.0.0.1:{}/{name}", server().port());
    let open_serving = async || PostgresLog::open(PostgresLogOptions::from_url(&serving).unwrap()).await;
    let refused = open_serving().await.unwrap_err();
    assert!(matches!(refused, DecisionLogError::SchemaNotReady { .. }), "{refused}");
    assert!(refused.to_string().contains("pactum log migrate"));
    assert_eq!(postgres::migrate(&url).await.unwrap().applied, [1, 2, 3]);
    assert_eq!(postgres::migrate(&url).await.unwrap().applied, [0; 0], "repeatable");
    let grants = format!(
        "GRANT USAGE ON SCHEMA pactum TO serving_{name};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA pactum TO serving_{name}"
    );
    server().psql(name, &grants).unwrap();
    let fixture = Fixture { log: Arc::new(open_serving().await.unwrap()), url: url.clone() };
    let (own, mut writer) = fixture.started().await;
    assert_eq!(writer.write(own, &[commit(own, gid(1), 1)]).await, [ProposalResult::Won]);
    fixture.log.end_incarnation(own).await.unwrap();
    fixture.log.raise_floor(gid(1)).await.unwrap();
    server()
        .psql(name, "INSERT INTO pactum.migrations VALUES (99, 'later', now(), true, '\\x00', 0)")
        .unwrap();
    let refused = open_serving().await.unwrap_err();
    assert!(matches!(refused, DecisionLogError::SchemaNotReady { .. }), "{refused}");
}

#[tokio::test]
async fn two_that_open_an_empty_log_at_once_agree_on_its_name() {
    let url = new_database();
    let (one, two) = futures::future::join(open(&url), open(&url)).await;
    assert_eq!(one.cluster(), two.cluster());
    assert_eq!(one.cluster().as_str().len(), 12);
}
