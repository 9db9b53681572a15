//! A run: images and facts first, then cases side by side, then everything goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cri_api::v1::RemoveImageRequest;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::case::{Case, Stop, said};
use crate::context::{Context, Shared, Source, spec};
use crate::facts::Facts;
use crate::images::{Image, Registry, docker_save, push};
use crate::options::Options;
use crate::report::{CaseResult, Outcome, Report};
use crate::rpc::Rpc;

/// How long the first calls may take together.
const BEGINS_WITHIN: Duration = Duration::from_secs(120);
/// The repository of the image that most containers run.
const BUSYBOX: &str = "check/busybox";
/// The repository of an image that does nothing, for runtimes that need one for every pod.
const PAUSE: &str = "check/pause";

/// A suite that is ready to run its cases.
#[derive(Debug)]
pub struct Suite {
    shared: Arc<Shared>,
}

impl Suite {
    /// Makes the images, offers them, and looks at the runtime at the other end of `channel`.
    ///
    /// # Errors
    /// Why no case can be run: in words.
    pub async fn prepare(channel: Channel, options: Options) -> Result<Self, String> {
        let work = Self::begin(channel, options);
        let begun = tokio::time::timeout(BEGINS_WITHIN, Box::pin(work)).await;
        begun.unwrap_or_else(|_| Err(format!("the runtime is not ready after {BEGINS_WITHIN:?}")))
    }

    async fn begin(channel: Channel, options: Options) -> Result<Self, String> {
        let rpc = Rpc::new(channel);
        let facts = Facts::gather(&rpc, &options).await;
        let facts =
            facts.map_err(|status| format!("the runtime cannot be asked: {}", said(&status)))?;
        let run = format!("{:x}", std::process::id() as u64 ^ nanoseconds());
        let at = options.directory.clone().unwrap_or_else(std::env::temp_dir);
        let directory = tempfile::Builder::new().prefix("isopod-check-").tempdir_in(&at);
        let directory = directory.map_err(|error| format!("{}: {error}", at.display()))?;
        let busybox = Image::busybox(&options.busybox).map_err(|error| error.to_string())?;
        let busybox = busybox.unique(&run);
        let source = match &options.registry {
            Some(host) => Source::Given(host.clone()),
            None => {
                let registry = Registry::start(options.serve_on).await;
                Source::Own(registry.map_err(|e| format!("{}: {e}", options.serve_on))?)
            }
        };
        for (repository, image) in [(BUSYBOX, busybox.clone()), (PAUSE, pause(&busybox))] {
            match &source {
                Source::Own(registry) => registry.put(&image, repository, "1"),
                Source::Given(host) => {
                    let pushed = push(host, &image, repository, "1").await;
                    pushed
                        .map_err(|error| format!("an image cannot be pushed to {host}: {error}"))?;
                }
            }
        }
        let image = format!("{}/{BUSYBOX}:1", source.host());
        let request =
            cri_api::v1::PullImageRequest { image: Some(spec(&image)), ..Default::default() };
        let pulled = rpc.pull_image(request).await;
        pulled.map_err(|status| format!("{image} cannot be pulled: {}", said(&status)))?;
        let shared = Shared { rpc, options, facts, source, busybox, image, directory, run };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Runs every case that the options select; `tell` hears of each as it ends.
    pub async fn run(&self, mut tell: impl FnMut(&CaseResult)) -> Report {
        let began = Instant::now();
        let options = &self.shared.options;
        let chosen = crate::cases::all().filter(|case| options.select(case));
        let (alone, together): (Vec<&Case>, Vec<&Case>) = chosen.partition(|case| case.is_alone());
        let slots = Arc::new(Semaphore::new(options.jobs.max(1)));
        let mut running = JoinSet::new();
        for case in together {
            let (shared, slots) = (Arc::clone(&self.shared), Arc::clone(&slots));
            running.spawn(async move {
                // Nobody closes it.
                let _slot = slots.acquire().await;
                run_one(&shared, case).await
            });
        }
        let mut results = Vec::new();
        while let Some(result) = running.join_next().await {
            // Cases are run in tasks of their own: this one does not panic.
            if let Ok(result) = result {
                tell(&result);
                results.push(result);
            }
        }
        for case in alone {
            let result = run_one(&self.shared, case).await;
            tell(&result);
            results.push(result);
        }
        results.sort_by(|a, b| a.name.cmp(&b.name));
        let version = &self.shared.facts.version;
        Report {
            runtime: version.runtime_name.clone(),
            version: version.runtime_version.clone(),
            handler: options.handler.clone(),
            level: options.level.name().to_owned(),
            seconds: began.elapsed().as_secs_f64(),
            results,
        }
    }

    /// Removes what the whole run needed. What stays is the runtime's fault, and told.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn finish(self) -> Result<(), String> {
        let image = Some(spec(&self.shared.image));
        let removed = self.shared.rpc.remove_image(RemoveImageRequest { image }).await;
        let said = |status| format!("{} stays: {}", self.shared.image, said(&status));
        removed.map(|_| ()).map_err(said)
    }

    /// The image that a runtime needs for every pod, where it needs one, as an archive of `docker save`
    /// with this name.
    ///
    /// # Errors
    /// Where the busybox of the options cannot be read.
    pub fn pause_archive(options: &Options, name: &str) -> std::io::Result<Vec<u8>> {
        Ok(docker_save(&pause(&Image::busybox(&options.busybox)?), name))
    }
}

/// An image whose program waits until it is told to end.
fn pause(busybox: &Image) -> Image {
    let script = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";
    busybox.clone().set("Entrypoint", json!(["/bin/sh", "-c", script])).set("Cmd", json!([]))
}

fn nanoseconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() ^ u64::from(now.subsec_nanos()) << 8)
}

/// Runs a case and cleans up after it.
async fn run_one(shared: &Arc<Shared>, case: &'static Case) -> CaseResult {
    let began = Instant::now();
    let lacks = case.needs.iter().find_map(|need| shared.facts.lacks(*need, &shared.options));
    let verdict = match lacks {
        Some(reason) => Err(Stop::Skipped(reason)),
        None => attempt(shared, case).await,
    };
    let (outcome, why, at) = match verdict {
        Ok(()) => (Outcome::Passed, String::new(), String::new()),
        Err(Stop::Failed { why, at }) => (Outcome::Failed, why, at),
        Err(Stop::Skipped(reason)) => (Outcome::Skipped, reason, String::new()),
        Err(Stop::Unimplemented(said)) if case.is_optional() => {
            (Outcome::Skipped, format!("the runtime does not implement it: {said}"), String::new())
        }
        Err(Stop::Unimplemented(said)) => {
            (Outcome::Failed, format!("the runtime answers Unimplemented: {said}"), String::new())
        }
    };
    CaseResult {
        name: case.name.to_owned(),
        rule: case.rule.to_owned(),
        basis: case.basis.name().to_owned(),
        level: case.level.name().to_owned(),
        covers: case.covers.iter().map(|&name| name.to_owned()).collect(),
        outcome,
        why,
        at,
        seconds: began.elapsed().as_secs_f64(),
    }
}

async fn attempt(shared: &Arc<Shared>, case: &'static Case) -> Result<(), Stop> {
    let context = Arc::new(Context::new(shared, case));
    let patience = shared.options.patience;
    let task = tokio::spawn({
        let context = Arc::clone(&context);
        async move { tokio::time::timeout(patience, (case.run)(&context)).await }
    });
    let verdict = match task.await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(_)) => Err(Stop::failed(format!("the case is not done after {patience:?}"))),
        Err(error) => Err(Stop::failed(format!("the case itself broke: {error}"))),
    };
    let stays = context.scope.clean(&context.rpc, &context.mark, patience).await;
    if stays.is_empty() || matches!(verdict, Err(Stop::Failed { .. })) {
        return verdict;
    }
    Err(Stop::failed(format!("after the case, this cannot be removed: {}", stays.join("; "))))
}
