//! Where the log's server may be: one host, or several of which one is the primary at a time.
//!
//! A URL names several as libpq's does: `postgres://user@h1:5432,h2:5433/database`. They are tried at
//! once, a moment apart, and the first that proves to be the primary on the latest timeline known is
//! taken; a hung host delays the others by that moment only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use sqlx::postgres::PgConnectOptions;

use super::session::SessionError;
use crate::decision_log::DecisionLogError;

/// The head start of the host that was the primary the last time: longer than a connection takes,
/// shorter than anybody notices.
const HEAD_START: Duration = Duration::from_millis(200);

/// Hosts in one URL at most: a primary, its standbys, and room for a move.
const HOSTS_MAX: usize = 16;

/// The hosts of one log. Clones share what was learned.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    candidates: Vec<PgConnectOptions>,
    /// The one that was the primary the last time.
    latest: Arc<AtomicUsize>,
}

impl Hosts {
    /// Reads a URL. Nothing is connected.
    pub(super) fn from_url(url: &str) -> Result<Self, DecisionLogError> {
        let urls = one_each(url);
        if urls.len() > HOSTS_MAX {
            return Err(DecisionLogError::Refused {
                setting: "the log's URL",
                found: format!("{} hosts", urls.len()),
                remedy: "name at most 16",
            });
        }
        let parse = |url: &String| url.parse::<PgConnectOptions>().map_err(SessionError::from);
        let candidates = urls.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { candidates, latest: Arc::default() })
    }

    #[must_use]
    pub(super) fn called(mut self, name: &str) -> Self {
        for candidate in &mut self.candidates {
            *candidate = candidate.clone().application_name(name);
        }
        self
    }

    /// Calls `connect` with one host after the other until one succeeds. If none does, the answer is
    /// that of the host which got farthest: a refusal by name tells more than a closed port.
    pub(super) async fn first<T, F>(
        &self,
        connect: impl Fn(PgConnectOptions) -> F,
    ) -> Result<T, DecisionLogError>
    where
        F: Future<Output = Result<T, DecisionLogError>>,
    {
        let count = self.candidates.len();
        let latest = self.latest.load(Ordering::Relaxed);
        let connect = &connect;
        let attempt = |step: usize| {
            let place = (latest + step) % count;
            let options = self.candidates[place].clone();
            async move { (place, connect(options).await) }
        };
        let mut running = FuturesUnordered::from_iter([attempt(0)]);
        let (mut begun, mut failure) = (1, None);
        loop {
            let next = tokio::time::timeout(HEAD_START, running.next());
            match next.await {
                Ok(Some((place, Ok(connected)))) => {
                    self.latest.store(place, Ordering::Relaxed);
                    return Ok(connected);
                }
                Ok(Some((_, Err(error)))) => failure = Some(farther(failure, error)),
                // The rest may take their own limit.
                Ok(None) | Err(_) => {}
            }
            if begun < count {
                running.push(attempt(begun));
                begun += 1;
            } else if running.is_empty() {
                let nobody = || DecisionLogError::Database("the log's URL names no host".into());
                return Err(failure.unwrap_or_else(nobody));
            }
        }
    }

    /// Calls `look` with each host, all at once; whoever does not answer is left out.
    pub(super) async fn each<T, F>(&self, look: impl Fn(PgConnectOptions) -> F) -> Vec<T>
    where
        F: Future<Output = Option<T>>,
    {
        let all = self.candidates.iter().cloned().map(look);
        futures::future::join_all(all).await.into_iter().flatten().collect()
    }

    pub(super) fn are_several(&self) -> bool {
        self.candidates.len() > 1
    }
}

/// Of two failures the one that a person can act on.
fn farther(one: Option<DecisionLogError>, other: DecisionLogError) -> DecisionLogError {
    let is_standby = |error: &DecisionLogError| matches!(error, DecisionLogError::Refused { setting, .. } if *setting == super::session::STANDBY);
    match one {
        // That a standby is none is no news where there are several.
        Some(one) if is_standby(&other) || matches!(other, DecisionLogError::Database(_)) => one,
        Some(_) | None => other,
    }
}

/// The URL once for each of its hosts.
fn one_each(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else { return vec![url.to_owned()] };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    // A password may hold an `@` or even a slash only in its escaped form.
    let (authority, path) = rest.split_at(end);
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let at = if user.is_empty() { "" } else { "@" };
    hosts.split(',').map(|host| format!("{scheme}://{user}{at}{host}{path}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_several_hosts_is_one_for_each() {
        let cases = [
            ("postgres://h/db", vec!["postgres://h/db"]),
            ("postgres:///db?host=/run", vec!["postgres:///db?host=/run"]),
            (
                "postgres://u:a,b@h1:1,h2/db?sslmode=require",
                vec!["postgres://u:a,b@h1:1/db?sslmode=require", "postgres://u:a,b@h2/db?sslmode=require"],
            ),
            ("postgres://[::1]:5,h2?x=1,2", vec!["postgres://[::1]:5?x=1,2", "postgres://h2?x=1,2"]),
        ];
        for (url, each) in cases {
            assert_eq!(one_each(url), each, "{url}");
        }
    }

    #[tokio::test]
    async fn a_hung_host_delays_the_next_one_by_a_moment_only() {
        let hosts = Hosts::from_url("postgres://u@h0,h1,h2/db").unwrap();
        let connect = async |options: PgConnectOptions| match options.get_host() {
            "h0" => std::future::pending().await,
            "h1" => Err(DecisionLogError::Database("closed".into())),
            host => Ok(host.to_owned()),
        };
        assert_eq!(hosts.first(&connect).await.unwrap(), "h2");
        // And is not asked first the next time.
        let only_one =
            async |options: PgConnectOptions| Ok::<_, DecisionLogError>(options.get_host().to_owned());
        assert_eq!(hosts.first(&only_one).await.unwrap(), "h2");
    }
}
