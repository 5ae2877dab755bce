//! The text of a scrape: `OpenMetrics` 1.0.0 as the client library writes it, and the older Prometheus
//! text format 0.0.4 for whoever does not ask for the newer one.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::histogram::Counts;

/// The content type of [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/).
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The content type of the older format.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One label.
pub(super) type Label<'a> = (&'static str, &'a str);

/// Writes metrics, each with all of its series.
pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    /// A counter without labels. `_total` is added to its name.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.open(name, help, MetricType::Counter)?)
    }

    /// A counter of several series. `_total` is added to its name.
    pub(super) fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([Label<'l>; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.open(name, help, MetricType::Counter)?;
        for (labels, value) in series {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.open(name, help, MetricType::Gauge)?)
    }

    /// A gauge of several series.
    pub(super) fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([Label<'l>; N], f64)>,
    ) -> fmt::Result {
        let mut family = self.open(name, help, MetricType::Gauge)?;
        for (labels, value) in series {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A histogram without labels.
    pub(super) fn histogram(&mut self, name: &str, help: &str, counts: &Counts) -> fmt::Result {
        shown(&mut self.open(name, help, MetricType::Histogram)?, counts)
    }

    /// A histogram of several series.
    pub(super) fn histograms<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([Label<'l>; N], Counts)>,
    ) -> fmt::Result {
        let mut family = self.open(name, help, MetricType::Histogram)?;
        for (labels, counts) in series {
            shown(&mut family.encode_family(&labels)?, &counts)?;
        }
        Ok(())
    }

    fn open<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }
}

fn shown(encoder: &mut MetricEncoder<'_>, counts: &Counts) -> fmt::Result {
    encoder.encode_histogram::<[Label<'_>; 0]>(counts.sum, counts.count, &counts.buckets, None)
}

/// Whether a scraper asks for `OpenMetrics`, by its `Accept` header. (A weight of 0 is not looked for:
/// no scraper names a format to refuse it.)
pub(super) fn wants_open_metrics(accept: &str) -> bool {
    accept.split(',').any(|part| {
        let kind = part.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/openmetrics-text")
    })
}

/// `OpenMetrics` as text format 0.0.4. The samples are the same; there a counter is described by its
/// full name, and nothing marks the end.
pub(super) fn as_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            // Held back until its type is known, which decides its name.
            help = Some(line);
        } else if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap_or((described, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, explained)) =
                help.take().and_then(|help| help.trim_start_matches("# HELP ").split_once(' '))
            {
                push(&mut text, &["# HELP ", name, suffix, " ", explained]);
            }
            push(&mut text, &["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with('#') {
            push(&mut text, &[line]);
        }
    }
    text
}

fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_describes_a_counter_by_its_full_name() {
        let open_metrics = "# HELP pactum_x What.\n# TYPE pactum_x counter\npactum_x_total{a=\"b\"} 3\n\
             # HELP pactum_y Which.\n# TYPE pactum_y gauge\npactum_y 1.5\n# EOF\n";
        let text = "# HELP pactum_x_total What.\n# TYPE pactum_x_total counter\npactum_x_total{a=\"b\"} 3\n\
             # HELP pactum_y Which.\n# TYPE pactum_y gauge\npactum_y 1.5\n";
        assert_eq!(as_text(open_metrics), text);
    }

    #[test]
    fn the_newer_format_is_for_whoever_asks_for_it() {
        // As Prometheus 3 asks.
        let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             text/plain;version=0.0.4;q=0.4,*/*;q=0.1";
        assert!(wants_open_metrics(accept));
        assert!(!wants_open_metrics("*/*"));
        assert!(!wants_open_metrics("text/plain;version=0.0.4"));
    }
}
