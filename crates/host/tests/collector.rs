//! What a collector receives over OTLP: one trace across processes' borders, and the figures.

use std::{error::Error, net::SocketAddr, time::Duration};

use mailyard_host::{
    config,
    metrics::{Direction, Metrics},
    telemetry,
};
use mailyard_policy::operation::Kind;
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    metrics::v1::metric::Data,
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, async_trait};
use tracing::{debug_span, info_span};

/// What was received.
enum Received {
    Spans(ExportTraceServiceRequest),
    Figures(ExportMetricsServiceRequest),
}

#[derive(Clone)]
struct Collector(mpsc::UnboundedSender<Received>);

#[async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0
            .send(Received::Spans(request.into_inner()))
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.0
            .send(Received::Figures(request.into_inner()))
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

async fn listen() -> std::io::Result<(SocketAddr, mpsc::UnboundedReceiver<Received>, tokio::task::AbortHandle)>
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let (sender, receiver) = mpsc::unbounded_channel();
    let collector = Collector(sender);
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(MetricsServiceServer::new(collector))
        .serve_with_incoming(TcpListenerStream::new(listener));
    Ok((address, receiver, tokio::spawn(serving).abort_handle()))
}

fn span<'a>(spans: &'a [Span], name: &str) -> Result<&'a Span, String> {
    spans.iter().find(|span| span.name == name).ok_or_else(|| format!("no span {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_receives_one_trace_and_the_figures() -> Result<(), Box<dyn Error>> {
    let (address, mut received, server) = listen().await?;
    let endpoint = format!("http://{address}");
    let flags =
        [("telemetry.otlp_endpoint", endpoint.as_str()), ("telemetry.sample", "1"), ("log.level", "off")];
    let config = config::load(None, [], &flags)?;
    let guard = telemetry::init(&config.log, &config.telemetry, "test")?;
    let metrics = Metrics::new("test", guard.meter());

    let carried = info_span!(target: "mailyard_coordinator", "call").in_scope(telemetry::traceparent);
    assert_eq!(carried.len(), 55, "{carried}");
    let poll = debug_span!(target: "mailyard_worker", "poll");
    telemetry::adopt(&poll, &carried);
    poll.in_scope(|| info_span!(target: "mailyard_store", "commit").in_scope(|| ()));
    drop(poll);
    let alone = info_span!(target: "mailyard_worker", "alone");
    telemetry::adopt(&alone, "no trace at all");
    drop(alone);
    info_span!(target: "h2", "foreign").in_scope(|| ());
    let profile = metrics.profile("head office");
    metrics.messages(&profile, Direction::Incoming, 7);
    metrics.poll_began(&profile, Kind::Incoming, Duration::from_secs(3));
    metrics.connections(&profile, 4);
    guard.shutdown().await;
    server.abort();

    let (mut spans, mut figures) = (Vec::new(), Vec::new());
    while let Ok(next) = received.try_recv() {
        match next {
            Received::Spans(request) => {
                let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
                spans.extend(scopes.flat_map(|scope| scope.spans));
            }
            Received::Figures(request) => {
                let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
                figures.extend(scopes.flat_map(|scope| scope.metrics));
            }
        }
    }
    let (call, poll, commit) = (span(&spans, "call")?, span(&spans, "poll")?, span(&spans, "commit")?);
    assert_eq!((&poll.trace_id, &poll.parent_span_id), (&call.trace_id, &call.span_id));
    assert_eq!((&commit.trace_id, &commit.parent_span_id), (&call.trace_id, &poll.span_id));
    assert_ne!(span(&spans, "alone")?.trace_id, call.trace_id);
    assert!(span(&spans, "foreign").is_err());
    let mut seen: Vec<String> = figures
        .iter()
        .map(|figure| {
            let kind = match &figure.data {
                Some(Data::Sum(sum)) => {
                    format!("sum {:?}", sum.data_points.first().and_then(|point| point.value))
                }
                Some(Data::Gauge(gauge)) => {
                    format!("gauge {:?}", gauge.data_points.first().and_then(|point| point.value))
                }
                Some(Data::Histogram(histogram)) => {
                    format!(
                        "histogram {:?}",
                        histogram.data_points.first().map(|point| (point.count, point.sum))
                    )
                }
                other => format!("{other:?}"),
            };
            format!("{} {kind}", figure.name)
        })
        .collect();
    seen.sort();
    insta::assert_debug_snapshot!(seen);
    Ok(())
}
