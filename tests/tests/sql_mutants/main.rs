//! Mutants of the SQL, on real PostgreSQL: each changes a statement on its way to the server (see
//! [`pactum_tests::rewrite`]), and a check of a property must fail by it.
//!
//! A *scenario* brings about the one situation that the statement's wording is for, and looks at
//! what came of it. Without any change it must hold; with the mutant it must be broken. A mutant
//! that survives fails the suite, and so does one whose text is not found any more.
//!
//! The mutants are those of the failure matrix (B6, C6, D3, D8, D16, H1, H3, H5, H6, H8), with the
//! row named at each.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic like the test itself")]

mod log;
mod resource;

use std::io::Write as _;
use std::sync::Mutex;

use pactum_postgres_server::PostgresServer;
use pactum_tests::rewrite::{Rewriter, Rule};

/// What a scenario saw: `Err` is a broken property, in words.
type Verdict = Result<(), String>;

/// Stands between a scenario and its servers.
#[derive(Debug)]
struct Front {
    rules: Vec<Rule>,
    proxies: Mutex<Vec<Rewriter>>,
}

impl Front {
    fn new(rules: &[Rule]) -> Self {
        Self { rules: rules.to_vec(), proxies: Mutex::default() }
    }

    /// The same URL, by way of the mutant.
    async fn url(&self, server: &PostgresServer, url: &str) -> String {
        let proxy = Rewriter::start(server.port(), &self.rules).await;
        let url = proxy.url(url);
        self.proxies.lock().unwrap().push(proxy);
        url
    }

    /// The rules that changed nothing on any connection.
    fn idle(&self) -> Vec<Rule> {
        let proxies = self.proxies.lock().unwrap();
        let idle: Vec<Vec<Rule>> = proxies.iter().map(Rewriter::idle).collect();
        self.rules.iter().filter(|rule| idle.iter().all(|idle| idle.contains(rule))).copied().collect()
    }
}

/// Runs the scenario as it is and with the mutant, and counts the mutant if it is caught.
async fn caught(name: &str, mutant: &[Rule], scenario: impl AsyncFn(&Front) -> Verdict) {
    if let Err(violation) = scenario(&Front::new(&[])).await {
        panic!("broken without any mutant: {violation}");
    }
    let front = Front::new(mutant);
    let verdict = scenario(&front).await;
    assert_eq!(front.idle(), [], "{name}: the statement reads otherwise by now");
    let Err(violation) = verdict else { panic!("the mutant survived: {name}") };
    let lines = format!("sql_mutants caught 1\n# sql_mutant {name}: caught, since {violation}\n");
    #[expect(clippy::print_stdout, reason = "what a run executed is part of its result")]
    {
        print!("{lines}");
    }
    if let Some(path) = std::env::var_os("PACTUM_EVIDENCE") {
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(b"sql_mutants caught 1\n").unwrap();
    }
}
