//! How a page finds its rows, as SQLite plans it.

use sqlx::{Connection as _, Row as _};
use tempfile::TempDir;

use super::super::{file, sql};
use super::*;

/// A SCAN of a table reads all of it, in whatever order; a SEARCH reads a range of a key.
/// Only what is small by its nature may be scanned: the marks of incarnations, and what was found already.
#[tokio::test]
async fn no_page_scans_the_log() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("log.db");
    let mut connection = file::connect(&path).await.unwrap();
    file::run_migrations(&mut connection).await.unwrap();
    for statement in [DECIDED, UNFINISHED_NEAR, UNFINISHED, UNDECIDED, sql::LIST_HEURISTICS] {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan = sqlx::raw_sql(explain).fetch_all(&mut connection).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        assert!(steps.iter().any(|step| step.starts_with("SEARCH ")), "{steps:#?}");
        let scanned: Vec<&str> = steps.iter().filter_map(|step| step.strip_prefix("SCAN ")).collect();
        let mut small = vec!["i", "o", "m", "page", "listed", "above"];
        // The 2000 newest, by the name of the table that they were taken from.
        if steps.iter().any(|step| ["CO-ROUTINE d", "MATERIALIZE d"].contains(&step.as_str())) {
            small.push("d");
        }
        for scan in &scanned {
            assert!(
                small.iter().any(|small| scan == small || scan.starts_with(&format!("{small} "))),
                "{steps:#?}"
            );
        }
    }
    connection.close().await.unwrap();
}
