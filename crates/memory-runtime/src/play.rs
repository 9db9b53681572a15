//! Containers and commands that are played: their starts, signals and ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cri_api::v1::*;
use cri_log::Stream;
use tokio::sync::{broadcast, mpsc, watch};
use tonic::Status;

use crate::fault::Fault;
use crate::log::Log;
use crate::program::{Program, Sink, is_known, signal};
use crate::world::{CHUNKS_AHEAD, Container, INPUT_AHEAD, Running, World, now};

/// What a container without a name of its own is refused with.
pub(crate) fn unknown(world: &World, what: &str, id: &str) -> Status {
    let message = format!("there is no {what} {id:?}");
    if world.has(Fault::WrongCode) { Status::unknown(message) } else { Status::not_found(message) }
}

/// Command and arguments, as Kubernetes combines them with the image's.
fn command(world: &World, container: &Container) -> Vec<String> {
    let (config, image) = (&container.config, &container.stored);
    if !config.command.is_empty() {
        return [config.command.clone(), config.args.clone()].concat();
    }
    let own = !config.args.is_empty() && !world.has(Fault::ArgsIgnored);
    [image.entrypoint.clone(), if own { config.args.clone() } else { image.command.clone() }]
        .concat()
}

fn environment(world: &World, container: &Container) -> BTreeMap<String, String> {
    let of_image = container.stored.environment.iter().filter_map(|text| text.split_once('='));
    let of_image = of_image.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let of_request = container.config.envs.iter().map(|variable| {
        (variable.key.clone(), String::from_utf8_lossy(&variable.value).into_owned())
    });
    let lost = world.has(Fault::EnvironmentLost);
    let of_request = of_request.filter(|_| !lost);
    if world.has(Fault::ImageEnvironmentWins) {
        of_request.chain(of_image).collect()
    } else {
        of_image.chain(of_request).collect()
    }
}

/// StartContainer.
pub(crate) fn start(world: &Arc<World>, id: &str) -> Result<(), Status> {
    let mut tables = world.lock();
    let container = tables.containers.get(id).ok_or_else(|| unknown(world, "container", id))?;
    let may = container.state == ContainerState::ContainerCreated
        || (container.state == ContainerState::ContainerExited && world.has(Fault::StartTwice));
    if !may {
        return Err(Status::failed_precondition(format!("container {id} has been started before")));
    }
    if !tables.pods.get(&container.pod).is_some_and(|pod| pod.is_ready) {
        return Err(Status::failed_precondition(format!(
            "the sandbox of container {id} is stopped"
        )));
    }
    let words = command(world, container);
    let environment = environment(world, container);
    let pod = container.pod.clone();
    let refusal = match words.first() {
        None => Some("there is nothing to run".to_owned()),
        Some(name) if !is_known(name) => Some(format!("{name}: no such program")),
        Some(_) => None,
    };
    let log = Log::open(PathBuf::from(&container.log_path));
    let log = log.map_err(|error| Status::internal(format!("{}: {error}", container.log_path)))?;
    let with_input = container.config.stdin;
    let Some(container) = tables.containers.get_mut(id) else {
        return Err(unknown(world, "container", id));
    };
    if let Some(mut why) = refusal {
        if world.has(Fault::SecretTold) {
            why = format!("{why}, with {environment:?}");
        }
        container.state = ContainerState::ContainerExited;
        (container.exit_code, container.finished_at) = (128, now());
        "StartError".clone_into(&mut container.reason);
        container.message.clone_from(&why);
        return Err(Status::failed_precondition(format!(
            "container {id} cannot be started: {why}"
        )));
    }
    let (signals, hears) = mpsc::unbounded_channel();
    let (input, reads) = mpsc::channel(INPUT_AHEAD);
    let running = Arc::new(Running {
        signals,
        input: Mutex::new(with_input.then_some(input)),
        output: broadcast::channel(CHUNKS_AHEAD).0,
        log: Mutex::new(log),
        kill: watch::channel(false).0,
        over: watch::channel(false).0,
    });
    container.running = Some(Arc::clone(&running));
    container.state = ContainerState::ContainerRunning;
    container.started_at = now();
    world.tell(&tables, id, &pod, ContainerEventType::ContainerStartedEvent);
    drop(tables);
    let sink = sink(world, &running);
    let program = Program::new(words, environment, with_input.then_some(reads), hears, sink);
    tokio::spawn(play(Arc::clone(world), id.to_owned(), running, program));
    Ok(())
}

fn lock_log(running: &Running) -> std::sync::MutexGuard<'_, Log> {
    running.log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Output goes to the log, and to whoever is attached.
fn sink(world: &Arc<World>, running: &Arc<Running>) -> Sink {
    let (world, running) = (Arc::clone(world), Arc::clone(running));
    Box::new(move |stream, bytes| {
        lock_log(&running).write(stream, bytes, &world.faults);
        // Nobody may be attached.
        let _ = running.output.send((stream, Bytes::copy_from_slice(bytes)));
    })
}

async fn play(world: Arc<World>, id: String, running: Arc<Running>, mut program: Program) {
    let mut killed = running.kill.subscribe();
    let code = tokio::select! {
        code = program.run() => code,
        _ = killed.wait_for(|killed| *killed) => 137,
    };
    lock_log(&running).finish(&world.faults);
    world.ended(&id, code);
    running.over.send_replace(true);
}

/// What a container is asked to end with.
fn stop_signal(world: &World, container: &Container) -> i32 {
    const TERM: i32 = 15;
    if world.has(Fault::StopSignal) {
        return TERM;
    }
    let asked = Signal::try_from(container.config.stop_signal).ok();
    let asked = asked.filter(|asked| *asked != Signal::RuntimeDefault);
    let name = match asked {
        Some(asked) => asked.as_str_name().trim_start_matches("SIGNAL_").to_owned(),
        None => container.stored.stop_signal.clone(),
    };
    signal(&name).unwrap_or(TERM)
}

/// StopContainer, of a container that is there.
pub(crate) async fn stop(world: &World, id: &str, timeout: i64) {
    let (running, signal) = {
        let tables = world.lock();
        let Some(container) = tables.containers.get(id) else { return };
        if container.state != ContainerState::ContainerRunning {
            return;
        }
        let Some(running) = container.running.clone() else { return };
        (running, stop_signal(world, container))
    };
    let mut over = running.over.subscribe();
    let time = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
    if !time.is_zero() && !world.has(Fault::StopAtOnce) {
        // It may end by itself first.
        let _ = running.signals.send(signal);
        if tokio::time::timeout(time, over.wait_for(|over| *over)).await.is_ok() {
            return;
        }
    }
    running.kill.send_replace(true);
    // Nothing that is played outlives a kill.
    let _ = over.wait_for(|over| *over).await;
}

/// The parts of a container that runs.
pub(crate) fn running(
    world: &World,
    id: &str,
) -> Result<(Arc<Running>, BTreeMap<String, String>), Status> {
    let tables = world.lock();
    let container = tables.containers.get(id).ok_or_else(|| unknown(world, "container", id))?;
    let parts = container.running.clone();
    match parts.filter(|_| container.state == ContainerState::ContainerRunning) {
        Some(running) => Ok((running, environment(world, container))),
        None => Err(Status::failed_precondition(format!("container {id} does not run"))),
    }
}

/// ExecSync.
pub(crate) async fn exec_sync(
    world: &World,
    request: ExecSyncRequest,
) -> Result<ExecSyncResponse, Status> {
    let (running, environment) = running(world, &request.container_id)?;
    let Some(name) = request.cmd.first() else {
        return Err(Status::invalid_argument("cmd is empty"));
    };
    if !is_known(name) {
        return Ok(ExecSyncResponse { exit_code: 127, ..Default::default() });
    }
    let said = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let sink: Sink = {
        let (said, mixes) = (Arc::clone(&said), world.has(Fault::ExecMixes));
        let logs = world.has(Fault::ExecLogged).then(|| Arc::clone(&running));
        Box::new(move |stream, bytes| {
            if let Some(running) = &logs {
                lock_log(running).write(stream, bytes, &crate::fault::Faults::default());
            }
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            match stream {
                Stream::Stderr if !mixes => said.1.extend_from_slice(bytes),
                Stream::Stdout | Stream::Stderr => said.0.extend_from_slice(bytes),
            }
        })
    };
    let (_signals, hears) = mpsc::unbounded_channel();
    let mut program = Program::new(request.cmd, environment, None, hears, sink);
    let mut over = running.over.subscribe();
    let limit = match u64::try_from(request.timeout) {
        Ok(seconds @ 1..) => Duration::from_secs(seconds),
        Ok(0) | Err(_) => Duration::from_secs(1 << 30),
    };
    let code = tokio::select! {
        code = program.run() => code,
        _ = over.wait_for(|over| *over) => 137,
        () = tokio::time::sleep(limit) => {
            if !world.has(Fault::ExecTimeout) {
                return Err(Status::deadline_exceeded("the command ran past its timeout"));
            }
            124
        }
    };
    let exit_code = if world.has(Fault::ExecCodeLost) { 0 } else { code };
    let (stdout, stderr) =
        std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(ExecSyncResponse { stdout: stdout.into(), stderr: stderr.into(), exit_code })
}

/// ReopenContainerLog.
pub(crate) fn reopen(world: &World, id: &str) -> Result<(), Status> {
    let (running, _) = running(world, id)?;
    if world.has(Fault::ReopenIgnored) {
        return Ok(());
    }
    let mut log = lock_log(&running);
    log.reopen().map_err(|error| Status::internal(format!("the log of {id}: {error}")))?;
    if world.has(Fault::ReopenRepeats) {
        log.repeat_last();
    }
    Ok(())
}

/// Where a container's log is.
pub(crate) fn log_path(
    world: &World,
    pod: &PodSandboxConfig,
    container: &ContainerConfig,
) -> String {
    if container.log_path.is_empty() {
        return String::new();
    }
    let directory = if world.has(Fault::LogPath) { "/tmp" } else { &pod.log_directory };
    Path::new(directory).join(&container.log_path).to_string_lossy().into_owned()
}
