//! Spans of the coordinator, exported by the OpenTelemetry protocol (OTLP over gRPC).
//!
//! Only where this command was built with the feature `otlp`; without it nothing of OpenTelemetry is
//! linked, and the option does not exist. The coordinator hands out spans that have ended as plain data;
//! here they become what the exporter takes, which sends them in batches from a thread of its own. If
//! the collector is away or slow, spans are dropped and nothing waits.

use clap::Args;
use pactum_coordinator::trace::Tracer;

use crate::failure::Failure;

/// Where spans go.
#[derive(Debug, Default, Args)]
pub(crate) struct Otlp {
    /// Send spans of traced transactions to this OpenTelemetry collector (gRPC), for example
    /// <http://127.0.0.1:4317>. Other OTEL_ variables hold too
    #[cfg(feature = "otlp")]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
}

#[cfg(not(feature = "otlp"))]
mod export {
    use super::{Failure, Otlp, Tracer};

    /// Nobody takes spans.
    #[derive(Debug)]
    pub(crate) struct Spans;

    impl Otlp {
        /// Begins to send spans, if that is asked for.
        #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "as with the feature")]
        pub(crate) fn start(&self) -> Result<Spans, Failure> {
            Ok(Spans)
        }
    }

    impl Spans {
        /// Takes the coordinator's spans.
        #[allow(clippy::unused_self, reason = "as with the feature")]
        pub(crate) fn tracer(&self) -> Tracer {
            Tracer::default()
        }

        /// Sends what is left.
        #[allow(clippy::unused_async, clippy::unused_self, reason = "as with the feature")]
        pub(crate) async fn stop(self) {}
    }
}

#[cfg(feature = "otlp")]
mod export {
    use std::sync::Arc;

    use opentelemetry::trace::{
        Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
    };
    use opentelemetry::{InstrumentationScope, KeyValue};
    use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
    use pactum_coordinator::trace::{Span, SpanKind as Kind, SpanRef};

    use super::{Failure, Otlp, Tracer};

    /// What the collector calls us where `OTEL_SERVICE_NAME` says nothing.
    const SERVICE: &str = "pactum";

    /// Sends spans, or nothing if no collector was named.
    #[derive(Debug)]
    pub(crate) struct Spans(Option<Arc<BatchSpanProcessor>>);

    impl Otlp {
        /// Begins to send spans, if that is asked for: by the option, or by
        /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`. To be called on a tokio runtime.
        pub(crate) fn start(&self) -> Result<Spans, Failure> {
            let is_set = |name: &str| std::env::var(name).is_ok_and(|text| !text.is_empty());
            let endpoint = self.otlp_endpoint.as_ref().filter(|endpoint| !endpoint.is_empty());
            if endpoint.is_none() && !is_set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
                return Ok(Spans(None));
            }
            let mut builder = SpanExporter::builder().with_tonic();
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            let exporter = builder.build().map_err(|error| {
                Failure::usage("spans cannot be sent there")
                    .because(&error)
                    .next("name an OpenTelemetry collector like http://127.0.0.1:4317")
            })?;
            let mut resource = Resource::builder()
                .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
            if !is_set("OTEL_SERVICE_NAME") {
                resource = resource.with_service_name(SERVICE);
            }
            let mut processor = BatchSpanProcessor::builder(exporter).build();
            processor.set_resource(&resource.build());
            Ok(Spans(Some(Arc::new(processor))))
        }
    }

    impl Spans {
        /// Takes the coordinator's spans.
        pub(crate) fn tracer(&self) -> Tracer {
            match &self.0 {
                None => Tracer::default(),
                Some(processor) => {
                    let processor = Arc::clone(processor);
                    Tracer::new(move |span| processor.on_end(exported(span)))
                }
            }
        }

        /// Sends what is left, for as long as the exporter's own time limit.
        pub(crate) async fn stop(self) {
            let Some(processor) = self.0 else { return };
            // It waits for its thread, which needs this runtime.
            match tokio::task::spawn_blocking(move || processor.shutdown()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the last spans could not be sent"),
                Err(error) => tracing::warn!(%error, "the last spans could not be sent"),
            }
        }
    }

    fn context(span: SpanRef, is_remote: bool) -> SpanContext {
        let (trace, own) = (TraceId::from_bytes(span.trace), SpanId::from_bytes(span.span));
        SpanContext::new(trace, own, TraceFlags::SAMPLED, is_remote, TraceState::NONE)
    }

    /// A span as the exporter takes it.
    fn exported(span: Span) -> SpanData {
        let Span { id, parent, parent_is_remote, links, name, kind, start, end, attributes, error } = span;
        let links_of = links.into_iter().map(|link| Link::new(context(link, true), Vec::new(), 0));
        let mut links = SpanLinks::default();
        links.links.extend(links_of);
        SpanData {
            span_context: context(id, false),
            parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: parent_is_remote,
            span_kind: match kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
                Kind::Internal => SpanKind::Internal,
            },
            name: name.into(),
            start_time: start,
            end_time: end,
            attributes: attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("pactum_coordinator")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}
