//! Logs and traces: lines to standard error, spans to a collector if one is configured.

use std::{collections::HashMap, io::IsTerminal as _};

use opentelemetry::{
    global,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{Log, LogFormat, Telemetry};

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("log.filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The collector's URL cannot be used.
    #[error("telemetry.otlp_endpoint: {0}")]
    Endpoint(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Something in this process logs already.
    #[error("the log is set up twice in one process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps traces flowing; what is still on its way is sent when it is shut down.
#[derive(Debug)]
pub struct Guard(Option<SdkTracerProvider>);

impl Guard {
    /// Sends what is still on its way.
    pub fn shutdown(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be sent");
        }
    }
}

/// Sets up logs and traces of this process, which plays this role.
///
/// # Errors
/// [`Error`].
pub fn init(log: &Log, telemetry: &Telemetry, role: &'static str) -> Result<Guard, Error> {
    let filter = EnvFilter::builder().parse(&log.filter)?;
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = (!telemetry.otlp_endpoint.is_empty())
        .then(|| tracer_provider(&telemetry.otlp_endpoint, role))
        .transpose()?;
    let traces = provider.as_ref().map(|provider| {
        // Spans below the log's level are worth tracing all the same.
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("mailyard"))
            .with_filter(EnvFilter::new("mailyard=debug,mailyard_worker=debug,mailyard_coordinator=debug,mailyard_exchange=debug,mailyard_store=debug,mailyard_wire=debug"))
    });
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).try_init()?;
    Ok(Guard(provider))
}

fn tracer_provider(endpoint: &str, role: &'static str) -> Result<SdkTracerProvider, Error> {
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    let resource = Resource::builder()
        .with_service_name("mailyard")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(opentelemetry::KeyValue::new("mailyard.role", role))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The W3C `traceparent` of the current span; empty if nothing is traced.
pub fn traceparent() -> String {
    struct Headers(HashMap<String, String>);
    impl Injector for Headers {
        fn set(&mut self, key: &str, value: String) {
            self.0.insert(key.to_owned(), value);
        }
    }
    let mut headers = Headers(HashMap::new());
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
    headers.0.remove("traceparent").unwrap_or_default()
}

/// Makes a span part of the trace that a `traceparent` names; one that cannot be read is left alone.
pub fn adopt(span: &Span, traceparent: &str) {
    struct Header<'a>(&'a str);
    impl Extractor for Header<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == "traceparent" && !self.0.is_empty()).then_some(self.0)
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent"]
        }
    }
    let context = TraceContextPropagator::new().extract(&Header(traceparent));
    // Without a tracer there is nothing to be part of.
    let _untraced = span.set_parent(context);
}
