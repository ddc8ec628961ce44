//! Logs, traces and figures: lines to standard error; spans and figures to a collector if one is configured.

use std::{collections::HashMap, io::IsTerminal as _};

use http::Uri;
use opentelemetry::{
    KeyValue,
    metrics::{Meter, MeterProvider as _},
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::TracerProvider as _,
};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tonic::transport::ClientTlsConfig;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::config::{Log, LogFormat, Percent, Telemetry};

/// Why there is no telemetry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter cannot be read.
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The collector's URL cannot be used.
    #[error("telemetry.otlp_endpoint: {0}")]
    Endpoint(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Something in this process logs already.
    #[error("the log is set up twice in one process")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps spans and figures flowing to the collector.
#[derive(Debug)]
pub struct Guard(Option<Sent>);

#[derive(Debug)]
struct Sent {
    spans: SdkTracerProvider,
    figures: SdkMeterProvider,
}

/// Sets up logs, traces and figures of this process, which plays this role. With a collector, on a tokio runtime.
///
/// # Errors
/// [`Error`].
pub fn init(log: &Log, telemetry: &Telemetry, role: &'static str) -> Result<Guard, Error> {
    init_to(log, telemetry, role, std::io::stderr)
}

/// The same, with the lines of the log written to where the caller wishes.
///
/// # Errors
/// [`Error`].
pub fn init_to<W>(log: &Log, telemetry: &Telemetry, role: &'static str, to: W) -> Result<Guard, Error>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(log.level.as_str())?;
    let json = match log.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(to);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    let collector = telemetry.otlp_endpoint.as_ref();
    let sent = collector.map(|uri| Sent::to(uri, telemetry.sample, role)).transpose()?;
    let traces = sent.as_ref().map(|sent| {
        // Our own spans, also below the log's level; not those of the exporter, which would never end.
        tracing_opentelemetry::layer()
            .with_tracer(sent.spans.tracer("mailyard"))
            .with_filter(EnvFilter::new("mailyard=debug"))
    });
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(traces).try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, panic = panic.payload_as_str(), "a task broke a rule of its own");
    }));
    Ok(Guard(sent))
}

impl Sent {
    fn to(endpoint: &Uri, sample: Percent, role: &'static str) -> Result<Self, Error> {
        let (endpoint, roots) = (endpoint.to_string(), ClientTlsConfig::new().with_native_roots());
        let tls = endpoint.starts_with("https:").then_some(roots);
        let mut spans = SpanExporter::builder().with_tonic().with_endpoint(&endpoint);
        let mut figures = MetricExporter::builder().with_tonic().with_endpoint(&endpoint);
        if let Some(tls) = tls {
            (spans, figures) = (spans.with_tls_config(tls.clone()), figures.with_tls_config(tls));
        }
        let resource = Resource::builder()
            .with_service_name("mailyard")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("mailyard.role", role))
            .build();
        let share = Sampler::TraceIdRatioBased(f64::from(sample.0) / 100.0);
        Ok(Self {
            spans: SdkTracerProvider::builder()
                .with_sampler(Sampler::ParentBased(Box::new(share)))
                .with_batch_exporter(spans.build()?)
                .with_resource(resource.clone())
                .build(),
            figures: SdkMeterProvider::builder()
                .with_periodic_exporter(figures.build()?)
                .with_resource(resource)
                .build(),
        })
    }
}

impl Guard {
    /// Where figures are sent from, if there is a collector: for [`Metrics::new`](crate::metrics::Metrics::new).
    pub fn meter(&self) -> Option<Meter> {
        self.0.as_ref().map(|sent| sent.figures.meter("mailyard"))
    }

    /// Sends what is still on its way. A collector that does not answer is waited for a few seconds.
    pub async fn shutdown(self) {
        let Some(Sent { spans, figures }) = self.0 else { return };
        let ended = tokio::task::spawn_blocking(move || (spans.shutdown(), figures.shutdown())).await;
        match ended {
            Ok((Ok(()), Ok(()))) => {}
            Ok((spans, figures)) => {
                let error = spans.and(figures).err().map(|error| error.to_string());
                tracing::warn!(error, "the last traces and figures could not be sent");
            }
            Err(error) => tracing::warn!(%error, "the last traces and figures could not be sent"),
        }
    }
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

/// Makes a span part of the trace that a `traceparent` names; one that cannot be read is left alone. To be called
/// before the span is entered.
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
