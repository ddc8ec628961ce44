//! One definition of an instrument that counts in two places: here, for who asks, and for a collector, if there is one.

use std::{fmt, sync::Arc, time::Duration};

use opentelemetry::{KeyValue, Value, metrics};
use prometheus_client::{
    encoding::{EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter as LocalCounter,
        family::{Family, MetricConstructor},
        gauge::Gauge as LocalGauge,
        histogram::Histogram as LocalHistogram,
    },
    registry::{Registry, Unit},
};

/// The value of a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Label {
    /// One of a few that are known beforehand.
    Word(&'static str),
    /// A name that people have given.
    Name(Arc<str>),
}

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        match self {
            Self::Word(word) => EncodeLabelValue::encode(word, encoder),
            Self::Name(name) => EncodeLabelValue::encode(&name.as_ref(), encoder),
        }
    }
}

impl From<Label> for Value {
    fn from(label: Label) -> Self {
        match label {
            Label::Word(word) => word.into(),
            Label::Name(name) => name.into(),
        }
    }
}

/// The labels of a figure, with their names.
type Labels<const N: usize> = [(&'static str, Label); N];

fn named<const N: usize>(names: [&'static str; N], labels: [Label; N]) -> Labels<N> {
    let mut labels = labels.into_iter();
    // As many labels as names: an empty word never stands there.
    names.map(|name| (name, labels.next().unwrap_or(Label::Word(""))))
}

fn attributes<const N: usize>(labels: Labels<N>) -> [KeyValue; N] {
    labels.map(|(name, label)| KeyValue::new(name, label))
}

/// What only grows.
#[derive(Debug)]
pub(super) struct Counter<const N: usize> {
    names: [&'static str; N],
    local: Family<Labels<N>, LocalCounter>,
    sent: Option<metrics::Counter<u64>>,
}

impl<const N: usize> Counter<N> {
    pub(super) fn add(&self, labels: [Label; N], count: u64) {
        let labels = named(self.names, labels);
        self.local.get_or_create(&labels).inc_by(count);
        if let Some(sent) = &self.sent {
            sent.add(count, &attributes(labels));
        }
    }
}

/// What goes up and down.
#[derive(Debug)]
pub(super) struct Gauge<const N: usize> {
    names: [&'static str; N],
    local: Family<Labels<N>, LocalGauge>,
    sent: Option<metrics::Gauge<i64>>,
}

impl<const N: usize> Gauge<N> {
    pub(super) fn set(&self, labels: [Label; N], value: usize) {
        let (labels, value) = (named(self.names, labels), i64::try_from(value).unwrap_or(i64::MAX));
        self.local.get_or_create(&labels).set(value);
        if let Some(sent) = &self.sent {
            sent.record(value, &attributes(labels));
        }
    }
}

/// How long something takes, in seconds.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    names: [&'static str; N],
    local: Family<Labels<N>, LocalHistogram, Bounds>,
    sent: Option<metrics::Histogram<f64>>,
}

impl<const N: usize> Histogram<N> {
    pub(super) fn record(&self, labels: [Label; N], took: Duration) {
        let (labels, seconds) = (named(self.names, labels), took.as_secs_f64());
        self.local.get_or_create(&labels).observe(seconds);
        if let Some(sent) = &self.sent {
            sent.record(seconds, &attributes(labels));
        }
    }
}

/// Where the buckets of a histogram end.
#[derive(Clone, Copy, Debug)]
struct Bounds(&'static [f64]);

impl MetricConstructor<LocalHistogram> for Bounds {
    fn new_metric(&self) -> LocalHistogram {
        LocalHistogram::new(self.0.iter().copied())
    }
}

/// Defines instruments, in both places at once.
pub(super) struct Definitions {
    registry: Registry,
    meter: Option<metrics::Meter>,
}

impl Definitions {
    /// Counts here, and for the meter's collector.
    pub(super) fn new(meter: Option<metrics::Meter>) -> Self {
        Self { registry: Registry::default(), meter }
    }

    /// Names follow OpenMetrics: the ending `_total` is added when they are written.
    pub(super) fn counter<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        names: [&'static str; N],
    ) -> Counter<N> {
        let local = Family::default();
        self.registry.register(name, help, local.clone());
        let sent = self.meter.as_ref().map(|meter| meter.u64_counter(name).with_description(help).build());
        Counter { names, local, sent }
    }

    pub(super) fn gauge<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        names: [&'static str; N],
    ) -> Gauge<N> {
        let local = Family::default();
        self.registry.register(name, help, local.clone());
        let sent = self.meter.as_ref().map(|meter| meter.i64_gauge(name).with_description(help).build());
        Gauge { names, local, sent }
    }

    /// The ending `_seconds` is added when names are written.
    pub(super) fn histogram<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        names: [&'static str; N],
        bounds: &'static [f64],
    ) -> Histogram<N> {
        let local = Family::new_with_constructor(Bounds(bounds));
        self.registry.register_with_unit(name, help, Unit::Seconds, local.clone());
        let sent = self.meter.as_ref().map(|meter| {
            let histogram = meter.f64_histogram(name).with_description(help).with_unit("s");
            histogram.with_boundaries(bounds.to_vec()).build()
        });
        Histogram { names, local, sent }
    }

    /// What is written for who asks.
    pub(super) fn finish(self) -> Registry {
        self.registry
    }
}
