//! How a coordinator's status looks to people.

use std::time::Duration;

use super::table::{age, aligned, render, table};
use super::view::{LogStatusView, StatusView};

/// The page of `status`: facts, and below them the living coordinators.
pub(crate) fn page(view: &StatusView) -> String {
    let facts = [
        ("coordinator", view.incarnation.clone().unwrap_or_else(|| "no incarnation now".to_owned())),
        ("version", view.version.clone()),
        ("up for", age(Duration::from_millis(view.uptime_ms))),
        ("cluster", view.cluster.clone()),
        ("log", log(&view.log)),
        ("in doubt", doubt(view.log.doubted)),
        ("transactions", format!("{} open", view.transactions_open)),
        ("participants", format!("{} attached", view.participants_attached)),
    ];
    let facts = aligned(facts.map(|(name, value)| vec![name.to_owned(), value]));
    let mut living = table(["COORDINATOR", "ADDRESS", ""]);
    for coordinator in &view.coordinators {
        let is_it = view.incarnation.as_ref() == Some(&coordinator.incarnation);
        living.add_row([
            coordinator.incarnation.clone(),
            coordinator.address.clone().unwrap_or_else(|| "not advertised".to_owned()),
            if is_it { "this one" } else { "" }.to_owned(),
        ]);
    }
    format!("{facts}\n\n{}", render(&living))
}

fn log(log: &LogStatusView) -> String {
    let state = match &log.problem {
        None => "can be written".to_owned(),
        Some(problem) => format!("cannot be written: {problem}"),
    };
    let replicated = match &log.replication {
        None => String::new(),
        Some(replication) if replication.required == 0 => {
            ", not replicated synchronously: a failover may lose decisions".to_owned()
        }
        Some(replication) => format!(
            ", each commit waits for {} of \"{}\", {} there now",
            replication.required, replication.configured, replication.confirmed
        ),
    };
    format!("{}, {state}{replicated}", log.kind)
}

fn doubt(doubted: u64) -> String {
    match doubted {
        0 => "nobody".to_owned(),
        count => format!("{count} incarnations: the log went back in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::{CoordinatorView, ReplicationView};
    use super::*;

    fn view() -> StatusView {
        StatusView {
            version: "1.2.3".into(),
            cluster: "abc".into(),
            incarnation: Some("one".into()),
            uptime_ms: 4200,
            transactions_open: 7,
            participants_attached: 2,
            log: LogStatusView {
                kind: "postgres".into(),
                available: true,
                problem: None,
                doubted: 0,
                replication: Some(ReplicationView {
                    configured: "ANY 1 (a, b)".into(),
                    required: 1,
                    confirmed: 2,
                    visible: true,
                }),
            },
            coordinators: vec![
                CoordinatorView { incarnation: "one".into(), address: Some("10.0.0.1:7600".into()) },
                CoordinatorView { incarnation: "two".into(), address: None },
            ],
        }
    }

    #[test]
    fn a_page_names_every_living_coordinator_and_how_the_log_is_replicated() {
        let page = page(&view());
        assert!(page.contains("one          10.0.0.1:7600   this one"), "{page}");
        assert!(page.contains("two          not advertised"), "{page}");
        assert!(page.contains("each commit waits for 1 of \"ANY 1 (a, b)\", 2 there now"), "{page}");
    }

    #[test]
    fn a_log_that_cannot_be_written_says_why_and_doubt_is_plain() {
        let mut view = view();
        view.log.problem = Some("could not extend file: No space left on device".into());
        view.log.doubted = 2;
        let page = page(&view);
        assert!(page.contains("cannot be written: could not extend file"), "{page}");
        assert!(page.contains("2 incarnations: the log went back in time"), "{page}");
    }
}
