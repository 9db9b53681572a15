//! CreateContainer.

use std::path::PathBuf;
use std::sync::Arc;

use cdi::Origins;
use cgroups::Cgroup;
use image_store::Image;
use model::{
    Class, Classified as _, ContainerConfig, ContainerId, ContainerMetadata, IpcMode, PidMode,
    Profile, SandboxConfig, SandboxId, State, User,
};
use monitor_client::api::{Create, LogLimits, PidChoice, Runtime};
use monitor_client::{Monitor, MonitorError};
use operations::{Origin, Phases, Spot};
use runtime_spec::Spec;
use specgen::{Features, Inputs, Launcher};

use super::extras::Extras;
use super::host_paths::{self, OnHost, Wanted};
use super::log_limits::log_limits;
use super::rootfs::{self, Prepared};
use super::writable::writable;
use super::{bundle, checks, extras};
use crate::annotations::{self, Whose};
use crate::cgroup;
use crate::clock;
use crate::config::{Handler, Launch};
use model::with_causes;

use crate::error::{Cause, PodsError};
use crate::filters::{self, Filter};
use crate::host;
use crate::pods::Inner;
use crate::pods::Pods;
use crate::records::{ContainerRecord, ContainerStage, SandboxRecord, SandboxStage};
use crate::sandbox;
use crate::status::MountStatus;
use crate::steps::{
    Failure, TURN, UNDO, Waiting, blocking_step, bounded, step, step_at, unblocked,
};
use crate::undo::{Undo, Undos};

const OPERATION: &str = "CreateContainer";

/// What a container is asked for by: the same key is the same container.
pub(crate) fn key(sandbox: &SandboxId, metadata: &ContainerMetadata) -> String {
    format!("{sandbox} {:?} {}", metadata.name, metadata.attempt)
}

/// Joins or begins the operation.
pub(crate) async fn create(
    pods: &Pods,
    sandbox: &SandboxId,
    mut config: ContainerConfig,
) -> Result<ContainerId, PodsError> {
    let inner = &pods.inner;
    inner.table.settled(sandbox).await;
    let pod = inner.table.sandbox(sandbox).filter(|r| r.stage != SandboxStage::Making);
    let pod = pod.ok_or_else(|| PodsError::NoSandbox { id: sandbox.clone() })?;
    let object = format!("{}/{}", pod.config.metadata, config.metadata.name);
    if pod.stage != SandboxStage::Ready {
        let problem = "its sandbox is not ready".to_owned();
        return Err(PodsError::State { operation: OPERATION, object, problem });
    }
    checks::adopt(&mut config, &pod.config);
    if let Some(problem) = checks::contradiction(&config, &pod.config) {
        return Err(PodsError::Invalid { operation: OPERATION, object, problem });
    }
    if let PidMode::Target(target) = &config.security.namespaces.pid
        && inner.table.container(target).is_none_or(|of_it| of_it.sandbox != pod.id)
    {
        let problem = format!("target_id {target} is no container of this pod");
        return Err(PodsError::Invalid { operation: OPERATION, object, problem });
    }
    if let Err(problem) = extras_of(inner, &config, &pod.config) {
        return Err(PodsError::Invalid { operation: OPERATION, object, problem });
    }
    match writable_of(inner, &config, &pod.config) {
        Ok(_) => {}
        Err((Class::InvalidArgument, problem)) => {
            return Err(PodsError::Invalid { operation: OPERATION, object, problem });
        }
        Err((_, problem)) => {
            return Err(PodsError::State { operation: OPERATION, object, problem });
        }
    }
    let operations = inner.services.operations.clone();
    let (key, inner, name) = (key(sandbox, &config.metadata), Arc::clone(inner), object.clone());
    let work = move |phases: Phases| async move {
        if let Some(there) = inner.table.container_of(&pod.id, &config.metadata) {
            return Ok(there.id.clone());
        }
        if let Some(problem) = too_many(&inner, &pod.id) {
            return Err(PodsError::TooMany { operation: OPERATION, object: name, problem });
        }
        let made = make(&inner, &pod, config, &phases, &name).await;
        made.map_err(|failure| failure.of(OPERATION, &name))
    };
    Ok(operations.run(OPERATION, key, object, work).await?)
}

/// What its annotations and its other extras ask for, with all of its annotations known to be sound.
fn extras_of(
    inner: &Inner,
    container: &ContainerConfig,
    pod: &SandboxConfig,
) -> Result<Extras, String> {
    let passed = inner.config.handlers.get(&pod.handler).map(|h| h.annotations.as_slice());
    let unknown =
        annotations::unknown(&container.annotations, Whose::Container, passed.unwrap_or_default());
    unknown.map_or(Ok(()), Err)?;
    log_limits(inner.config.log_limits, &container.annotations, &pod.annotations)?;
    Extras::read(container, pod, &inner.config.classes, host::online_cpus().as_ref())
}

/// How many bytes a container may write, and what is to be told about a limit that cannot be kept here.
fn writable_of(
    inner: &Inner,
    container: &ContainerConfig,
    pod: &SandboxConfig,
) -> Result<(Option<u64>, Option<String>), (Class, String)> {
    let wanted = writable(inner.config.writable, &container.annotations, &pod.annotations);
    let wanted = wanted.map_err(|problem| (Class::InvalidArgument, problem))?;
    let kept = wanted.kept(inner.services.images.limits_writable());
    let (kept, told) = kept.map_err(|problem| (Class::FailedPrecondition, problem))?;
    Ok((kept.bytes(), told))
}

/// Why a pod gets no more containers.
fn too_many(inner: &Inner, sandbox: &SandboxId) -> Option<String> {
    let most = inner.config.dead_containers;
    let all = inner.table.containers_of(sandbox);
    let dead = all.iter().filter(|one| matches!(one.state, State::Exited { .. })).count();
    (dead >= most).then(|| {
        format!(
            "its pod keeps {dead} containers that have ended, and may keep {most} \
             (pods.dead_containers); some have to be removed first"
        )
    })
}

async fn make(
    inner: &Inner,
    pod: &SandboxRecord,
    config: ContainerConfig,
    phases: &Phases,
    object: &str,
) -> Result<ContainerId, Failure> {
    let mut undos = Undos::default();
    let made = build(inner, pod, config, phases, &mut undos).await;
    if let Err(failure) = &made {
        phases.failed(failure.phase);
        phases.enter(UNDO, None);
        inner.owed.add(object, undos.unwind(inner).await);
    }
    made
}

async fn build(
    inner: &Inner,
    pod: &SandboxRecord,
    config: ContainerConfig,
    phases: &Phases,
    undos: &mut Undos,
) -> Result<ContainerId, Failure> {
    let gate = inner.table.gate(&pod.id);
    let gate = gate.ok_or_else(|| gone("the sandbox is gone"))?;
    // Whoever ends the pod waits for this to fail or to be done.
    let _inside = gate.read().await;
    // Whoever stops the pod says so before it waits here.
    let stage = inner.table.sandbox(&pod.id).map(|record| record.stage);
    if stage != Some(SandboxStage::Ready) {
        return Err(gone("the sandbox was stopped meanwhile"));
    }
    let reserved = Reserved::record(inner, pod, config, undos)?;
    let ready = reserved.look_up(phases, undos).await?;
    let described = ready.describe(phases).await?;
    described.set_up(phases, undos).await
}

fn gone(message: &str) -> Failure {
    Failure::new("begin", Cause::other(Class::FailedPrecondition, message))
}

/// A container whose image is here and whose intention is written down.
struct Reserved<'a> {
    inner: &'a Inner,
    pod: &'a SandboxRecord,
    handler: &'a Handler,
    record: ContainerRecord,
    image: Image,
    /// What its spec says of its cgroup.
    cgroups_path: String,
    bundle: PathBuf,
    extras: Extras,
    /// How many bytes it may write.
    bytes: Option<u64>,
}

/// One whose mounts, devices and filter were found and whose file systems are prepared.
struct Ready<'a> {
    reserved: Reserved<'a>,
    on_host: OnHost,
    prepared: Prepared,
    filter: Option<Filter>,
}

/// One whose bundle is written.
struct Described<'a> {
    reserved: Reserved<'a>,
    prepared: Prepared,
    /// What of it vendors have described.
    origins: Origins,
}

impl<'a> Reserved<'a> {
    fn record(
        inner: &'a Inner,
        pod: &'a SandboxRecord,
        config: ContainerConfig,
        undos: &mut Undos,
    ) -> Result<Self, Failure> {
        let handler = inner.config.handlers.get(&pod.config.handler);
        let handler =
            handler.ok_or_else(|| gone("its runtime handler is not configured any more"))?;
        let extras = extras_of(inner, &config, &pod.config).map_err(|problem| {
            Failure::new("begin", Cause::other(Class::InvalidArgument, problem))
        })?;
        let (bytes, told) = writable_of(inner, &config, &pod.config)
            .map_err(|(class, problem)| Failure::new("begin", Cause::other(class, problem)))?;
        let image = rootfs::find(&inner.services.images, &config)
            .map_err(|cause| Failure::new("image", cause))?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|e| gone(&format!("no randomness: {e}")))?;
        let id = ContainerId::from_random(random);
        let (cgroups_path, cgroup) =
            cgroup::of_container(inner.config.cgroup_driver, &pod.cgroup, &id)
                .map_err(|e| Failure::new("cgroup", Cause::Cgroup(e.into())))?;
        let record = ContainerRecord {
            sandbox: pod.id.clone(),
            created_at: clock::now(),
            asked_by: Origin::current().to_string(),
            stage: ContainerStage::Making,
            state: State::Created,
            image_id: image.id.clone(),
            image_ref: image.repo_digests.first().unwrap_or(&image.id.to_string()).clone(),
            user: User::default(),
            mounts: Vec::new(),
            log_path: checks::log_file(&config, &pod.config),
            pid: None,
            resources: config.resources.clone(),
            stop_signal: specgen::stop_signal(&config, &image.config),
            cgroup,
            spans: Vec::new(),
            warnings: told.into_iter().collect(),
            config: Arc::new(config),
            id,
        };
        undos.push(Undo::ForgetContainer(record.id.clone()));
        inner.table.add_container(record.clone());
        inner.table.save_container(&record.id).map_err(|e| Failure::new("record", e))?;
        let bundle = inner.bundle(&pod.id, &record.id);
        Ok(Self { inner, pod, handler, record, image, cgroups_path, bundle, extras, bytes })
    }

    async fn look_up(self, phases: &Phases, undos: &mut Undos) -> Result<Ready<'a>, Failure> {
        let deadlines = self.inner.config.deadlines;
        self.provide_apparmor(phases).await?;
        let (config, wanted) = (Arc::clone(&self.record.config), self.wanted());
        let spot = Spot::of(TURN);
        let at = spot.clone();
        let look = self.inner.may_hang.run(move || host_paths::look_up(&config, &wanted, &at));
        let look = step_at(phases, "host paths", deadlines.host_path, &spot, look);
        let mut on_host = look.await?;
        let filter = self.filter(phases).await?;
        undos.push(Undo::ReleaseRootfs(self.record.id.clone()));
        let images = self.inner.services.images.clone();
        let (image, id, config) =
            (self.image.clone(), self.record.id.clone(), Arc::clone(&self.record.config));
        let wanted = rootfs::Wanted {
            on_host: std::mem::take(&mut on_host.mounts),
            places: self.bundle.join("volumes"),
            bytes: self.bytes,
        };
        let prepare = move || rootfs::prepare(&images, &image, &id, &config, wanted);
        // In the order in which all of it goes: its processes, its cgroup, its bundle.
        undos.push(Undo::RemoveDirectory(self.bundle.clone()));
        undos.push(Undo::RemoveCgroup(self.record.cgroup.clone()));
        let prepare = blocking_step(phases, "rootfs", deadlines.rootfs, prepare);
        let (prepared, made) = tokio::join!(prepare, self.make_cgroup());
        made?;
        let prepared = prepared?;
        Ok(Ready { reserved: self, on_host, prepared, filter })
    }

    /// Makes the cgroup beside other work, so that the monitor finds it. That makes what is missing, and tells why it
    /// cannot; an OCI runtime makes its own.
    async fn make_cgroup(&self) -> Result<(), Failure> {
        if !matches!(self.handler.launch, Launch::Own) {
            return Ok(());
        }
        let (hierarchies, path) = (self.inner.hierarchies.clone(), self.record.cgroup.clone());
        // An undo may begin when this returns.
        let waiting = Waiting::default();
        let is_given_up = waiting.is_given_up();
        let make = unblocked(move || {
            let made = Cgroup::create(&hierarchies, &path)?;
            if is_given_up() { made.remove() } else { Ok(()) }
        });
        match bounded("make cgroup", self.inner.config.deadlines.cgroup, make).await {
            Ok(()) => Ok(()),
            // What is made too late is taken back, so nobody else may have it.
            Err(late) if late.class() == Class::DeadlineExceeded => {
                Err(Failure::new("cgroup", late))
            }
            Err(error) => {
                tracing::debug!(error = %with_causes(&error), "the monitor makes the cgroup");
                Ok(())
            }
        }
    }

    /// What is to be looked up on the host.
    fn wanted(&self) -> Wanted {
        let (inner, record) = (self.inner, &self.record);
        let labels = specgen::selinux_labels(&record.config, &self.pod.config, &inner.host);
        Wanted {
            log: record.log_path.clone(),
            mount_label: labels.1,
            ..self.extras.wanted(&inner.config.cdi_dirs)
        }
    }

    /// Sees to it that the kernel has the container's AppArmor profile.
    async fn provide_apparmor(&self, phases: &Phases) -> Result<(), Failure> {
        let needed = extras::apparmor_needed(&self.record.config);
        if !self.inner.host.apparmor || *needed == Profile::Unconfined {
            return Ok(());
        }
        let (needed, apparmor) = (needed.clone(), self.inner.apparmor.clone());
        let default = self.inner.config.apparmor_profile.clone();
        let provide =
            self.inner.may_hang.run(move || apparmor.provide(&needed, default.as_deref()));
        step(phases, "apparmor", self.inner.config.deadlines.host_path, provide).await
    }

    /// The compiled seccomp filter, if its profile is not unconfined.
    async fn filter(&self, phases: &Phases) -> Result<Option<Filter>, Failure> {
        let security = &self.record.config.security;
        let profile = specgen::seccomp_profile(security);
        let default = self.inner.config.seccomp_profile.as_deref();
        let failed = |cause: Cause| Failure::new("seccomp", cause);
        let Some(source) = filters::source(profile, default).map_err(failed)? else {
            return Ok(None);
        };
        let sets = specgen::capabilities(
            &self.inner.config.capabilities,
            &security.capabilities,
            security.privileged,
            &self.inner.host.capabilities,
        );
        let bounding = sets.map_err(|e| failed(e.into()))?.bounding;
        let known = self.inner.filters.clone();
        let may_hang = &self.inner.may_hang;
        let compile = async {
            // Mostly it is known already, and nobody need be asked.
            match known.known(&source, &bounding) {
                Some(filter) => Ok(filter),
                None => may_hang.run(move || known.filter(&source, &bounding)).await,
            }
        };
        step(phases, "seccomp", self.inner.config.deadlines.host_path, compile).await.map(Some)
    }

    fn features(&self) -> Features {
        Features {
            launcher: match self.handler.launch {
                Launch::Own => Launcher::Own,
                Launch::External { .. } => Launcher::External,
            },
            recursive_read_only: self.handler.recursive_read_only,
            idmapped_mounts: self.handler.user_namespaces,
            privileged_without_host_devices: self.handler.privileged_without_host_devices,
        }
    }
}

impl<'a> Ready<'a> {
    async fn describe(self, phases: &Phases) -> Result<Described<'a>, Failure> {
        let mut spec = self.spec().map_err(|e| Failure::new("spec", e))?;
        let Self { reserved, mut prepared, filter, on_host } = self;
        let (container, pod) = (&reserved.record.config, &reserved.pod.config);
        let extended = reserved.extras.apply(&mut spec, &on_host, reserved.handler, container, pod);
        let origins = extended.map_err(|cause| Failure::new("devices", cause))?;
        if let Some(process) = &spec.process {
            prepared.identity.user.groups.clone_from(&process.user.additional_gids);
        }
        let (dir, own) = (reserved.bundle.clone(), reserved.features().launcher == Launcher::Own);
        // An external runtime finds the profile in the spec and compiles it itself.
        let file = filter.filter(|_| own).map(|f| f.file);
        let write = move || bundle::write(&dir, &spec, file.as_ref().map(|f| f.as_slice()));
        let deadline = reserved.inner.config.deadlines.rootfs;
        blocking_step(phases, "bundle", deadline, write).await?;
        Ok(Described { reserved, prepared, origins })
    }

    fn spec(&self) -> Result<Spec, specgen::SpecError> {
        let Reserved { inner, pod, record, image, bundle, .. } = &self.reserved;
        let has_shm = pod.config.namespaces.ipc == IpcMode::Pod;
        let pod_dir = inner.pod_dir(&pod.id);
        let files = sandbox::files::of_pod(&pod_dir, has_shm, inner.config.shm_size);
        let mut host = inner.host.clone();
        host.devices.clone_from(&self.on_host.all_devices);
        specgen::container_spec(&Inputs {
            sandbox: &pod.config,
            container: &record.config,
            image: &image.config,
            identity: &self.prepared.identity,
            host: &host,
            files: &files,
            cgroups_path: &self.reserved.cgroups_path,
            root: &bundle.join("rootfs"),
            mounts: &self.prepared.mounts,
            devices: &self.on_host.devices,
            features: self.reserved.features(),
            seccomp: self.filter.as_ref().map(|f| f.profile.as_ref()),
            rlimits: &inner.config.rlimits,
            pids_limit: inner.config.pids_limit,
            capabilities: &inner.config.capabilities,
            apparmor_default: inner.config.apparmor_profile.as_deref(),
        })
    }
}

impl Described<'_> {
    async fn set_up(self, phases: &Phases, undos: &mut Undos) -> Result<ContainerId, Failure> {
        let Self { reserved, prepared, origins } = self;
        let Reserved { inner, pod, record, .. } = &reserved;
        let monitor = inner.table.monitor(&pod.id);
        let monitor = monitor.ok_or_else(|| gone("the sandbox has lost its monitor"))?;
        let spot = inner.monitor_spot(&pod.id);
        let mounts = mount_statuses(&record.config, &prepared.image_ids);
        let user = prepared.identity.user.clone();
        undos.push(Undo::RemoveFromMonitor {
            sandbox: pod.id.clone(),
            container: record.id.clone(),
        });
        let request = request(&reserved, prepared);
        let created = create_in((&monitor, &spot), request, inner, phases).await;
        let created = created.map_err(|failure| with_device(failure, &origins))?;
        phases.adopt("monitor", "create", &created.spans);
        let spans = phases.spans();
        let made = inner.table.made(&record.id, |r| {
            r.pid = created.pid;
            r.user = user;
            r.mounts = mounts;
            r.spans = spans;
            r.warnings.extend(created.warnings);
        });
        if !made {
            return Err(gone("the sandbox was stopped meanwhile"));
        }
        inner.table.save_container(&record.id).map_err(|e| Failure::new("record", e))?;
        Ok(record.id.clone())
    }
}

/// A failure with the device that brought what failed, if one did.
fn with_device(failure: Failure, origins: &Origins) -> Failure {
    let Cause::Monitor(MonitorError::Refused(refusal)) = &*failure.cause else { return failure };
    match origins.blame(&with_causes(&*failure.cause), refusal.class) {
        Some(device) => Failure::new(failure.phase, device),
        None => failure,
    }
}

async fn create_in(
    (monitor, spot): (&Monitor, &Spot),
    request: Create,
    inner: &Inner,
    phases: &Phases,
) -> Result<monitor_client::api::Created, Failure> {
    let deadline = inner.config.deadlines.create;
    step_at(phases, "create", deadline, spot, monitor.create(request)).await
}

fn request(reserved: &Reserved<'_>, prepared: Prepared) -> Create {
    let Reserved { inner, pod, handler, record, bundle, .. } = reserved;
    // They were looked at when the operation began.
    let node = inner.config.log_limits;
    let limits = log_limits(node, &record.config.annotations, &pod.config.annotations);
    let limits = limits.unwrap_or(node);
    Create {
        container: record.id.clone(),
        bundle: bundle.clone(),
        rootfs: prepared.rootfs,
        log: record.log_path.clone(),
        stdio: record.config.stdio,
        runtime: match &handler.launch {
            Launch::Own => Runtime::Own,
            Launch::External { program, options, root } => Runtime::External {
                program: program.clone(),
                options: options.clone(),
                root: root.clone(),
            },
        },
        pid: match &record.config.security.namespaces.pid {
            PidMode::Pod => PidChoice::Pod,
            PidMode::Container | PidMode::Node => PidChoice::Spec,
            PidMode::Target(target) => PidChoice::Target(target.clone()),
        },
        volumes: prepared.volumes,
        log_limits: LogLimits {
            bytes_per_second: limits.bytes_per_second,
            total_bytes: limits.total_bytes,
        },
    }
}

fn mount_statuses(
    config: &ContainerConfig,
    image_ids: &[Option<model::Digest>],
) -> Vec<MountStatus> {
    let images = image_ids.iter().cloned().chain(std::iter::repeat(None));
    let all = config.mounts.iter().zip(images);
    all.map(|(mount, image_id)| MountStatus { mount: mount.clone(), image_id }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_sandbox_name_and_attempt() {
        let [one, other] = [1, 2].map(|n| SandboxId::from_random([n; 32]));
        let named = |name: &str, attempt| ContainerMetadata { name: name.to_owned(), attempt };
        let a = key(&one, &named("a", 0));
        assert_eq!(a, key(&one, &named("a", 0)));
        for changed in [(&other, "a", 0), (&one, "b", 0), (&one, "a", 1)] {
            assert_ne!(a, key(changed.0, &named(changed.1, changed.2)));
        }
    }
}
