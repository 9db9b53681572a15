//! What was measured.

use std::collections::BTreeMap;
use std::time::Duration;

/// Samples of one figure on one endpoint.
#[derive(Debug, Default, Clone)]
pub struct Series(Vec<f64>);

impl Series {
    /// The sample that `percent` of a hundred are not above; 0 of none.
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// A figure: what, in which unit, by endpoint.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// In which unit.
    pub unit: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// The samples, by the endpoint's number.
    pub series: BTreeMap<usize, Series>,
}

/// All figures of a run, in the order in which they were measured first.
#[derive(Debug)]
pub struct Figures {
    /// The endpoints; the first is what others are compared with.
    pub endpoints: Vec<String>,
    /// What each says it is.
    pub versions: Vec<String>,
    /// The figures.
    pub all: Vec<Figure>,
}

impl Figures {
    /// None yet.
    pub fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints, versions: Vec::new(), all: Vec::new() }
    }

    /// One more sample.
    pub fn add(&mut self, what: &str, unit: &'static str, endpoint: usize, value: f64) {
        let at = self.all.iter().position(|one| one.what == what);
        let at = at.unwrap_or_else(|| {
            let more_is_better = unit == "pods/s";
            let series = BTreeMap::new();
            self.all.push(Figure { what: what.to_owned(), unit, more_is_better, series });
            self.all.len() - 1
        });
        self.all[at].series.entry(endpoint).or_default().0.push(value);
    }

    /// One more duration, in milliseconds.
    pub fn took(&mut self, what: &str, endpoint: usize, took: Duration) {
        self.add(what, "ms", endpoint, took.as_secs_f64() * 1000.0);
    }
}

impl Figure {
    /// How many times better the first endpoint is than another one; `None` where one has no figure.
    pub fn ratio(&self, endpoint: usize) -> Option<f64> {
        let (own, other) = (self.series.get(&0)?, self.series.get(&endpoint)?);
        self.times_better(own.percentile(50), other.percentile(50))
    }

    /// How many times better one value of this figure is than another; `None` where there is no such number.
    pub fn times_better(&self, one: f64, other: f64) -> Option<f64> {
        let ratio = if self.more_is_better { one / other } else { other / one };
        ratio.is_finite().then_some(ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_say_how_many_times_the_first_is_better() {
        let mut figures = Figures::new(vec!["a".into(), "b".into()]);
        for (endpoint, value) in [(0, 10.0), (0, 30.0), (0, 20.0), (1, 60.0)] {
            figures.add("up", "ms", endpoint, value);
        }
        figures.add("rate", "pods/s", 0, 90.0);
        figures.add("rate", "pods/s", 1, 30.0);
        assert_eq!(figures.all[0].series[&0].percentile(50), 20.0);
        assert_eq!(figures.all[0].ratio(1), Some(3.0));
        assert_eq!(figures.all[1].ratio(1), Some(3.0));
        assert_eq!(figures.all[1].ratio(2), None);
    }
}
