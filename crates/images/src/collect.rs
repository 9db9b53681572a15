//! House-keeping in the background.

use std::time::{Duration, Instant};

use image_store::Collected;

use crate::{Images, ImagesError};

/// Pieces of work in one slice; between slices others get their turn.
const SLICE: usize = 16;
/// The round of measuring in which all is measured though nobody has asked since the one before: one in so many.
const SELDOM: u32 = 6;

/// Whether somebody wants to know what containers take. A node's kubelet asks all the time; where nobody does,
/// hundreds of directories are not walked for nothing.
#[derive(Debug, Default)]
struct Demand {
    /// Rounds since somebody has asked.
    unasked: u32,
}

impl Demand {
    /// Whether only new containers are measured in this round, before which somebody `was_asked` or not.
    const fn only_new(&mut self, was_asked: bool) -> bool {
        self.unasked = if was_asked { 0 } else { (self.unasked + 1) % SELDOM };
        self.unasked != 0
    }
}

impl Images {
    /// Frees layers that nothing uses and empties the trash, in slices, until nothing is left to do.
    ///
    /// # Errors
    /// [`ImagesError::Store`].
    pub async fn collect(&self) -> Result<Collected, ImagesError> {
        let begun = Instant::now();
        let mut sum = Collected::default();
        loop {
            let slice = self.blocking(|store| store.collect(SLICE)).await?;
            sum.add(&slice);
            if !slice.more {
                self.blocking(|store| store.sweep_partial(false)).await?;
                self.inner.done.collected(&sum, begun.elapsed());
                return Ok(sum);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Collects every `collect_every`, and measures the writable directories of containers every
    /// `measure_every`, for as long as it is polled: of all of them where somebody asks, else of new ones, and of
    /// all in one of six rounds. The daemon spawns it once.
    pub async fn keep_house(&self, collect_every: Duration, measure_every: Duration) {
        let mut collect = tokio::time::interval(collect_every);
        let mut measure = tokio::time::interval(measure_every);
        for timer in [&mut collect, &mut measure] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        let mut demand = Demand::default();
        loop {
            tokio::select! {
                _ = collect.tick() => {
                    if let Err(error) = self.collect().await {
                        tracing::warn!(error = &error as &dyn std::error::Error, "collection of images failed");
                    }
                }
                _ = measure.tick() => {
                    let only_new = demand.only_new(self.inner.store.was_asked());
                    self.measure_containers(only_new).await;
                }
            }
        }
    }

    /// One container after the other, in slices; what is gone meanwhile is no error.
    async fn measure_containers(&self, only_new: bool) {
        for slice in self.inner.store.measurable(only_new).chunks(SLICE) {
            let slice = slice.to_vec();
            let measured = self.blocking(move |store| {
                for container in slice {
                    if let Err(error) = store.measure(&container) {
                        tracing::debug!(%container, %error, "the writable directory cannot be measured");
                    }
                }
                Ok(())
            });
            if let Err(error) = measured.await {
                tracing::warn!(%error, "writable directories cannot be measured");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_measured_while_somebody_asks_and_seldom_when_nobody_does() {
        let mut demand = Demand::default();
        let whole = |demand: &mut Demand, rounds: u32, was_asked: bool| -> u32 {
            (0..rounds).map(|_| u32::from(!demand.only_new(was_asked))).sum()
        };
        assert_eq!(whole(&mut demand, 100, true), 100);
        assert_eq!(whole(&mut demand, 5, false), 0);
        assert_eq!(whole(&mut demand, 60, false), 10);
        assert_eq!(whole(&mut demand, 1, true), 1, "at once when somebody asks again");
    }
}
