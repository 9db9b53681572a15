//! House-keeping in the background.

use std::time::{Duration, Instant};

use image_store::Collected;

use crate::{Images, ImagesError};

/// Pieces of work in one slice; between slices others get their turn.
const SLICE: usize = 16;

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
    /// `measure_every`, for as long as it is polled. The daemon spawns it once.
    pub async fn keep_house(&self, collect_every: Duration, measure_every: Duration) {
        let mut collect = tokio::time::interval(collect_every);
        let mut measure = tokio::time::interval(measure_every);
        for timer in [&mut collect, &mut measure] {
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                _ = collect.tick() => {
                    if let Err(error) = self.collect().await {
                        tracing::warn!(error = &error as &dyn std::error::Error, "collection of images failed");
                    }
                }
                _ = measure.tick() => self.measure_containers().await,
            }
        }
    }

    /// One container after the other; what is gone meanwhile is no error.
    async fn measure_containers(&self) {
        let Ok(containers) = self.blocking(|store| store.containers()).await else { return };
        for container in containers {
            let id = container.clone();
            if let Err(error) = self.blocking(move |store| store.measure(&id)).await {
                tracing::debug!(%container, %error, "the writable directory cannot be measured");
            }
        }
    }
}
