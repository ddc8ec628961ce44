//! Figures of several runs, and how they are printed.

use std::fmt;

use serde::Serialize;

/// What a figure must keep to.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The median is no more than this.
    AtMost(f64),
    /// The median is no less than this.
    AtLeast(f64),
    /// The ratio is no more than this.
    RatioAtMost(f64),
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(out, "<= {most}"),
            Self::AtLeast(least) => write!(out, ">= {least}"),
            Self::RatioAtMost(most) => write!(out, "<= {most} x"),
        }
    }
}

/// One figure, measured several times.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// The runs, in their order.
    pub runs: Vec<f64>,
    /// The one in the middle.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The median, as a multiple of the first row's of the same unit.
    pub ratio: Option<f64>,
    /// What it must keep to.
    pub bound: Option<Bound>,
}

impl Row {
    /// Says what it must keep to.
    pub fn bound(&mut self, bound: Bound) {
        self.bound = Some(bound);
    }

    /// Its bound, and whether it keeps to it.
    fn judged(&self) -> Option<(Bound, bool)> {
        let bound = self.bound?;
        let keeps = match bound {
            Bound::AtMost(most) => self.median <= most,
            Bound::AtLeast(least) => self.median >= least,
            Bound::RatioAtMost(most) => self.ratio.is_some_and(|ratio| ratio <= most),
        };
        Some((bound, keeps))
    }
}

/// Figures that were measured side by side.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// What is compared.
    pub title: String,
    /// The first row is what the others are compared with.
    pub rows: Vec<Row>,
}

impl Table {
    /// An empty table.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new() }
    }

    /// Adds a figure that is compared with the first of its unit.
    pub fn row(&mut self, what: impl Into<String>, unit: &'static str, runs: &[f64]) -> &mut Row {
        let first = self.rows.iter().find(|row| row.unit == unit).map(|row| row.median);
        let row = self.single(what, unit, runs);
        row.ratio = first.map(|first| row.median / first);
        row
    }

    /// Adds a figure that is compared with no other.
    pub fn single(&mut self, what: impl Into<String>, unit: &'static str, runs: &[f64]) -> &mut Row {
        let mut sorted = runs.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = middle(&sorted);
        let (min, max) = (sorted.first().copied(), sorted.last().copied());
        let row = Row {
            what: what.into(),
            unit,
            runs: runs.to_vec(),
            median,
            min: min.unwrap_or(f64::NAN),
            max: max.unwrap_or(f64::NAN),
            ratio: None,
            bound: None,
        };
        self.rows.push_mut(row)
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    if sorted.len().is_multiple_of(2) { f64::midpoint(at(half.wrapping_sub(1)), at(half)) } else { at(half) }
}

/// Four digits that mean something.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        1.0.. => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or_default();
        writeln!(out, "{}", self.title)?;
        writeln!(
            out,
            "  {:width$}  {:>14}  {:>4}  {:>9}  {:>9}  {:>9}  {:>7}  bound",
            "", "unit", "runs", "median", "min", "max", "ratio"
        )?;
        for row in &self.rows {
            let Row { what, unit, runs, median, min, max, ratio, bound: _ } = row;
            let keeps = |(bound, keeps)| format!("{bound}: {}", if keeps { "met" } else { "missed" });
            let judged = row.judged().map(keeps).unwrap_or_default();
            let (median, min, max) = (short(*median), short(*min), short(*max));
            let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let runs = runs.len();
            writeln!(
                out,
                "  {what:width$}  {unit:>14}  {runs:>4}  {median:>9}  {min:>9}  {max:>9}  {ratio:>7}  {judged}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_compared_with_the_first_of_their_unit() {
        let mut table = Table::new("Polls");
        table.row("ours", "ms", &[3.0, 1.0, 2.0]);
        table.row("polls", "1/s", &[10.0]);
        table.row("theirs", "ms", &[8.0, 4.0]);
        let rows: Vec<_> = table.rows.iter().map(|row| (row.median, row.min, row.max, row.ratio)).collect();
        assert_eq!(rows, [(2.0, 1.0, 3.0, None), (10.0, 10.0, 10.0, None), (6.0, 4.0, 8.0, Some(3.0))]);
        table.row("theirs again", "ms", &[2.0]).bound(Bound::RatioAtMost(1.1));
        table.single("lost", "1", &[1.0]).bound(Bound::AtMost(0.0));
        table.single("index", "1", &[0.97]).bound(Bound::AtLeast(0.95));
        let judged: Vec<_> = table.rows.iter().filter_map(Row::judged).map(|(_, keeps)| keeps).collect();
        assert_eq!(judged, [true, false, true]);
        assert_eq!([short(0.01234), short(1.5), short(56789.4)], ["0.0123", "1.500", "56789"]);
    }
}
