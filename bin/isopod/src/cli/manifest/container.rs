//! A container of a manifest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cri_api::v1::{
    ContainerConfig, KeyValue, LinuxContainerResources, NamespaceOption, PortMapping, Protocol,
    Signal,
};

use super::expand::expand;
use super::fields::Fields;
use super::quantity;
use super::security::{self, OfPod};
use super::volumes::{self, Volumes, is_label};
use crate::cli::run::{Identity, Planned, PullWhen};

/// The period that CPU limits are counted in, in microseconds.
const CPU_PERIOD: i64 = 100_000;

/// What a container has from its pod.
#[derive(Debug)]
pub struct Around<'a> {
    /// The pod.
    pub identity: &'a Identity,
    /// Labels and annotations of the pod, for fieldRef.
    pub labels: &'a BTreeMap<String, String>,
    /// See `labels`.
    pub annotations: &'a BTreeMap<String, String>,
    /// Its namespaces.
    pub namespaces: NamespaceOption,
    /// Its context.
    pub security: &'a OfPod,
    /// Its volumes.
    pub volumes: &'a Volumes,
}

/// Reads a container; ports of the host are added to `ports`, directories to be made to `make`.
pub fn read(
    fields: &mut Fields<'_>,
    around: &Around<'_>,
    ports: &mut Vec<PortMapping>,
    make: &mut Vec<PathBuf>,
) -> Planned {
    let name = fields.required("name");
    if !is_label(name) {
        fields.refuse("name", "a name is small letters, digits and dashes");
    }
    let image = fields.required("image");
    let mut config = around.identity.container(name, image);
    let env = environment(fields, around);
    let values: BTreeMap<String, String> = env.iter().cloned().collect();
    let expanded = |texts: Vec<String>| texts.iter().map(|text| expand(text, &values)).collect();
    config.command = expanded(fields.texts("command"));
    config.args = expanded(fields.texts("args"));
    config.envs =
        env.into_iter().map(|(key, value)| KeyValue { key, value: value.into() }).collect();
    config.working_dir = fields.text("workingDir").unwrap_or_default().to_owned();
    config.tty = fields.flag("tty");
    config.stdin = fields.flag("stdin");
    config.stdin_once = fields.flag("stdinOnce");
    config.mounts = volumes::of_container(fields, around.volumes, make);
    config.stop_signal = stop_signal(fields).into();
    read_ports(fields, ports);
    // The default path is written to by containers that know of it, and nobody here reads it.
    if !matches!(fields.text("terminationMessagePath"), None | Some("/dev/termination-log")) {
        fields.refuse("terminationMessagePath", "nobody reads it here");
    }
    if !matches!(fields.text("terminationMessagePolicy"), None | Some("File")) {
        fields.refuse("terminationMessagePolicy", "nobody acts on it here");
    }
    let user = linux(fields, &mut config, around);
    Planned { config, pull: pull_policy(fields, image), user }
}

fn linux(
    fields: &mut Fields<'_>,
    config: &mut ContainerConfig,
    around: &Around<'_>,
) -> crate::cli::run::UserRule {
    let mut linux = config.linux.take().unwrap_or_default();
    linux.resources = Some(resources(fields));
    let mut context = linux.security_context.take().unwrap_or_default();
    context.namespace_options = Some(around.namespaces.clone());
    let user = security::of_container(fields, around.security, &mut context);
    linux.security_context = Some(context);
    config.linux = Some(linux);
    user
}

/// Variables in order; a value may use those before it.
fn environment(fields: &mut Fields<'_>, around: &Around<'_>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut known = BTreeMap::new();
    for mut variable in fields.objects("env") {
        let name = variable.required("name").to_owned();
        let value = match variable.object("valueFrom") {
            Some(mut from) => from_field(&mut from, around),
            None => expand(variable.text("value").unwrap_or_default(), &known),
        };
        known.insert(name.clone(), value.clone());
        all.push((name, value));
    }
    all
}

/// A value that the pod says of itself.
fn from_field(from: &mut Fields<'_>, around: &Around<'_>) -> String {
    let Some(mut field) = from.object("fieldRef") else { return String::new() };
    if !matches!(field.text("apiVersion"), None | Some("v1")) {
        field.refuse("apiVersion", "this is v1");
    }
    let path = field.required("fieldPath");
    let key_of = |prefix: &str| {
        path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']").map(str::to_owned)
    };
    if let Some(key) = key_of("metadata.labels") {
        return around.labels.get(&key).cloned().unwrap_or_default();
    }
    if let Some(key) = key_of("metadata.annotations") {
        return around.annotations.get(&key).cloned().unwrap_or_default();
    }
    match path {
        "metadata.name" => around.identity.name.clone(),
        "metadata.namespace" => around.identity.namespace.clone(),
        "metadata.uid" => around.identity.uid.clone(),
        _ => {
            field
                .refuse("fieldPath", "only what is in the manifest's metadata is known beforehand");
            String::new()
        }
    }
}

/// Ports that are published; others are information.
fn read_ports(fields: &mut Fields<'_>, ports: &mut Vec<PortMapping>) {
    for mut port in fields.objects("ports") {
        port.text("name");
        let container_port = port.port("containerPort").unwrap_or_default();
        let host_port = port.port("hostPort");
        let host_ip = port.text("hostIP").unwrap_or_default().to_owned();
        let protocol = match port.text("protocol") {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(_) => {
                port.refuse("protocol", "this is TCP, UDP or SCTP");
                Protocol::Tcp
            }
        };
        if let Some(host_port) = host_port {
            let protocol = protocol.into();
            ports.push(PortMapping { protocol, container_port, host_port, host_ip });
        }
    }
}

/// Limits; requests count as shares of CPU, and of memory as nothing: there is no scheduler here.
fn resources(fields: &mut Fields<'_>) -> LinuxContainerResources {
    let mut resources = LinuxContainerResources::default();
    let Some(mut given) = fields.object("resources") else { return resources };
    let mut shares = None;
    if let Some(mut limits) = given.object("limits") {
        let cpu = parsed(&mut limits, "cpu", quantity::cores);
        if let Some(cpu) = cpu {
            resources.cpu_period = CPU_PERIOD;
            resources.cpu_quota = cpu.saturating_mul(CPU_PERIOD) / 1_000;
            shares = Some(cpu);
        }
        resources.memory_limit_in_bytes =
            parsed(&mut limits, "memory", quantity::memory).unwrap_or_default();
    }
    if let Some(mut requests) = given.object("requests") {
        shares = parsed(&mut requests, "cpu", quantity::cores).or(shares);
        parsed(&mut requests, "memory", quantity::memory);
    }
    // 1024 for a core, and 2 is the least that the kernel takes.
    resources.cpu_shares = shares.map_or(0, |cpu| (cpu.saturating_mul(1_024) / 1_000).max(2));
    resources
}

fn parsed(
    fields: &mut Fields<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<i64, String>,
) -> Option<i64> {
    let text = fields.quantity(key)?;
    parse(&text).map_err(|why| fields.refuse(key, &why)).ok()
}

fn stop_signal(fields: &mut Fields<'_>) -> Signal {
    let Some(mut lifecycle) = fields.object("lifecycle") else {
        return Signal::RuntimeDefault;
    };
    let Some(name) = lifecycle.text("stopSignal") else { return Signal::RuntimeDefault };
    let found = Signal::from_str_name(&format!("SIGNAL_{name}"));
    if found.is_none() {
        lifecycle.refuse("stopSignal", "this is the name of a signal, such as SIGTERM");
    }
    found.unwrap_or(Signal::RuntimeDefault)
}

/// As Kubernetes: a tag that moves is fetched each time, unless the manifest says otherwise.
fn pull_policy(fields: &mut Fields<'_>, image: &str) -> PullWhen {
    let last = image.rsplit('/').next().unwrap_or(image);
    let moves = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    match fields.text("imagePullPolicy") {
        Some("Always") => PullWhen::Always,
        Some("IfNotPresent") => PullWhen::Missing,
        Some("Never") => PullWhen::Never,
        None if moves => PullWhen::Always,
        None => PullWhen::Missing,
        Some(_) => {
            fields.refuse("imagePullPolicy", "this is Always, IfNotPresent or Never");
            PullWhen::Missing
        }
    }
}
