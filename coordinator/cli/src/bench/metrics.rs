//! Reads what a coordinator counts, from its admin address, as any monitoring does.

use std::time::Duration;

use axum::body::Body;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep};

use super::process::Process;
use crate::exit::Exit;
use crate::failure::Failure;

/// A page of figures is some kilobytes; more than this is something else.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Between two looks: fine enough for what takes tenths of seconds, and costs the coordinator little.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The figures of one coordinator.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    http: Client<HttpConnector, Body>,
    url: http::Uri,
}

impl Metrics {
    /// Of that coordinator. Connects at the first question.
    pub(super) fn of(coordinator: &Process) -> Result<Self, Failure> {
        let url = format!("{}/metrics", coordinator.admin_url()?);
        let url = url.parse().map_err(|error| unread().because(&error))?;
        Ok(Self { http: Client::builder(TokioExecutor::new()).build(HttpConnector::new()), url })
    }

    /// One figure, all of its labels together; zero of what is not shown.
    pub(super) async fn read(&self, name: &str) -> Result<f64, Failure> {
        let answer = self.http.get(self.url.clone()).await.map_err(|error| unread().because(&error))?;
        let body = axum::body::to_bytes(Body::new(answer.into_body()), PAGE_BYTES_MAX).await;
        let body = body.map_err(|error| unread().because(&error))?;
        Ok(sum(&String::from_utf8_lossy(&body), name))
    }

    /// Waits until a figure is at least that, for at most so long.
    pub(super) async fn reach(&self, name: &str, least: u64, within: Duration) -> Result<(), Failure> {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let least = least as f64;
        let until = Instant::now() + within;
        loop {
            let now = self.read(name).await?;
            if now >= least {
                return Ok(());
            }
            if Instant::now() >= until {
                let waited = humantime::format_duration(within);
                let sentence = format!("{name} of the coordinator is {now} after {waited}, and not {least}");
                return Err(Failure::new(Exit::Failed, sentence));
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
    }
}

/// The sum of a figure's lines: `name VALUE` and `name{labels} VALUE`.
fn sum(page: &str, name: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let is_whole = rest.starts_with(' ') || rest.starts_with('{');
        is_whole.then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).flatten()
    };
    page.lines().filter_map(value).sum()
}

fn unread() -> Failure {
    Failure::new(Exit::Failed, "the coordinator's figures cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "small whole numbers are exact")]
    fn a_figure_is_the_sum_over_its_labels_and_of_no_other_name() {
        let page = "# HELP a text 7\na{x=\"1 2\"} 3\na{x=\"2\"} 4\nab 100\na_total 5\nb 9\n";
        assert_eq!(
            [sum(page, "a"), sum(page, "a_total"), sum(page, "b"), sum(page, "c")],
            [7.0, 5.0, 9.0, 0.0]
        );
    }
}
