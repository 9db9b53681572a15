//! Samples of one figure, and how they are told.

use std::time::Duration;

/// Durations of one thing.
#[derive(Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The sample that `percent` of a hundred are not above.
    fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied().unwrap_or_default()
    }

    /// The sample in the middle.
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// Prints one line: median, 95th percentile, count, and what was promised.
    pub fn print(&self, what: &str, promised_ms: Option<f64>) {
        let ms = |d: Duration| d.as_secs_f64() * 1000.0;
        let (median, p95) = (ms(self.percentile(50)), ms(self.percentile(95)));
        line(
            what,
            &format!("median {median:8.1} ms   p95 {p95:8.1} ms   n {:4}", self.0.len()),
            promised_ms.map(|p| {
                let verdict = if median <= p { "kept" } else { "BROKEN" };
                format!("promised {p} ms: {verdict}")
            }),
        );
    }
}

/// Prints one line of a figure that is no duration.
pub fn line(what: &str, figure: &str, promise: Option<String>) {
    println!("{what:<52} {figure}   {}", promise.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut samples = Samples::default();
        for ms in (1..=20).rev() {
            samples.add(Duration::from_millis(ms));
        }
        assert_eq!(samples.percentile(50), Duration::from_millis(10));
        assert_eq!(samples.percentile(95), Duration::from_millis(19));
        assert_eq!(samples.percentile(100), Duration::from_millis(20));
        assert_eq!(Samples::default().percentile(50), Duration::ZERO);
    }
}
