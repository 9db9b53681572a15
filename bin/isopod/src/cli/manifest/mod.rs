//! A Kubernetes Pod manifest as a plan. No I/O but for the types of hostPath volumes.
//!
//! Always: each field is honoured or named as a problem; all problems are found in one go.

mod container;
mod expand;
mod fields;
pub mod quantity;
mod security;
mod volumes;

use std::collections::BTreeMap;
use std::path::Path;

use cri_api::v1::{DnsConfig, NamespaceMode, NamespaceOption};
use serde_json::Value;

use container::Around;
use fields::{Fields, Problems};

use super::run::{Identity, Plan};

/// Seconds that containers get to end in, where a manifest does not say; Kubernetes' own.
const GRACE: i64 = 30;

/// The plan that a manifest asks for, or everything in it that cannot be honoured. `uid` is given to
/// a pod whose manifest has none; its files are in `directory`.
pub fn plan(text: &str, uid: &str, directory: &Path) -> Result<Plan, Vec<String>> {
    let document: Value =
        serde_saphyr::from_str(text).map_err(|error| vec![unreadable(&error.to_string())])?;
    let problems = Problems::default();
    let plan = read(&document, uid, directory, &problems);
    let problems = problems.into_list();
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

fn unreadable(why: &str) -> String {
    // What the library says of that is for programmers.
    if why.contains("from_str_multiple") {
        return "there is more than one YAML document in it; each run is of one pod".to_owned();
    }
    format!("this is no YAML: {why}")
}

fn read(document: &Value, uid: &str, directory: &Path, problems: &Problems) -> Plan {
    let mut top = Fields::of(document, String::new(), problems);
    if top.required("apiVersion") != "v1" {
        top.refuse("apiVersion", "this is v1");
    }
    if top.required("kind") != "Pod" {
        top.refuse("kind", "this is Pod; nothing else can be run here");
    }
    let mut labels = BTreeMap::new();
    let mut annotations = BTreeMap::new();
    let mut identity =
        Identity { name: String::new(), namespace: "default".to_owned(), uid: uid.to_owned() };
    match top.object("metadata") {
        Some(mut metadata) => {
            metadata.required("name").clone_into(&mut identity.name);
            if let Some(namespace) = metadata.text("namespace") {
                namespace.clone_into(&mut identity.namespace);
            }
            labels = metadata.map("labels");
            annotations = metadata.map("annotations");
        }
        None => top.refuse("metadata", "this is missing"),
    }
    let mut sandbox = identity.sandbox(directory);
    sandbox.labels.extend(labels.clone());
    sandbox.annotations.extend(annotations.clone());
    let mut plan = Plan { sandbox, ..Plan::default() };
    match top.object("spec") {
        Some(mut spec) => read_spec(&mut spec, &mut plan, &identity, directory),
        None => top.refuse("spec", "this is missing"),
    }
    plan
}

fn read_spec(spec: &mut Fields<'_>, plan: &mut Plan, identity: &Identity, directory: &Path) {
    whole_pod(spec, plan);
    let namespaces = namespaces(spec);
    let host_network = namespaces.network == i32::from(NamespaceMode::Node);
    match spec.text("hostname") {
        Some(_) if host_network => {
            spec.refuse("hostname", "a pod in the host's network has the host's name");
        }
        Some(hostname) => hostname.clone_into(&mut plan.sandbox.hostname),
        None if host_network => plan.sandbox.hostname.clear(),
        None => {}
    }
    let mut linux = plan.sandbox.linux.take().unwrap_or_default();
    let mut context = linux.security_context.take().unwrap_or_default();
    context.namespace_options = Some(namespaces.clone());
    let security = security::of_pod(spec, &mut context, &mut linux.sysctls);
    let volumes = volumes::of_pod(spec, directory, &mut plan.directories);
    let (labels, annotations) = (plan.sandbox.labels.clone(), plan.sandbox.annotations.clone());
    let around = Around {
        identity,
        labels: &labels,
        annotations: &annotations,
        namespaces,
        security: &security,
        volumes: &volumes,
    };
    let ports = &mut plan.sandbox.port_mappings;
    for mut fields in spec.objects("initContainers") {
        plan.init.push(container::read(&mut fields, &around, ports, &mut plan.directories));
    }
    for mut fields in spec.objects("containers") {
        plan.containers.push(container::read(&mut fields, &around, ports, &mut plan.directories));
    }
    if plan.containers.is_empty() {
        spec.refuse("containers", "a pod has one container at least");
    }
    let names = plan.init.iter().chain(&plan.containers);
    let mut names: Vec<_> =
        names.map(|p| p.config.metadata.clone().unwrap_or_default().name).collect();
    names.sort();
    if names.windows(2).any(|two| two[0] == two[1]) {
        spec.refuse("containers", "two of them have one name");
    }
    let all = plan.init.iter().chain(&plan.containers);
    let context_of = |planned: &super::run::Planned| planned.config.linux.clone()?.security_context;
    context.privileged = all.filter_map(context_of).any(|context| context.privileged);
    linux.security_context = Some(context);
    plan.sandbox.linux = Some(linux);
}

/// What concerns the pod and no container.
fn whole_pod(spec: &mut Fields<'_>, plan: &mut Plan) {
    match spec.text("restartPolicy") {
        // Kubernetes' default is Always; without a word, nobody is misled by Never.
        None | Some("Never") => {}
        Some(_) => spec.refuse("restartPolicy", "nothing restarts containers here: this is Never"),
    }
    let grace = spec.number("terminationGracePeriodSeconds").unwrap_or(GRACE);
    match u32::try_from(grace) {
        Ok(grace) => plan.grace = grace,
        Err(_) => spec.refuse("terminationGracePeriodSeconds", "this is no number of seconds"),
    }
    spec.text("runtimeClassName").unwrap_or_default().clone_into(&mut plan.handler);
    // No token is mounted, no service is linked: what these turn off is not there.
    for off in ["automountServiceAccountToken", "enableServiceLinks"] {
        if spec.flag(off) {
            spec.refuse(off, "there is no cluster here: this is false");
        }
    }
    let policy = spec.text("dnsPolicy");
    if !matches!(policy, None | Some("Default" | "None")) {
        spec.refuse("dnsPolicy", "there is no cluster here: this is Default or None");
    }
    if let Some(mut dns) = spec.object("dnsConfig") {
        let options = dns.objects("options").into_iter().map(|mut option| {
            let name = option.required("name");
            option.text("value").map_or_else(|| name.to_owned(), |value| format!("{name}:{value}"))
        });
        plan.sandbox.dns_config = Some(DnsConfig {
            options: options.collect(),
            servers: dns.texts("nameservers"),
            searches: dns.texts("searches"),
        });
        if policy != Some("None") {
            spec.refuse("dnsConfig", "this goes with dnsPolicy None");
        }
    } else if policy == Some("None") {
        spec.refuse("dnsConfig", "this is missing: dnsPolicy is None");
    }
}

fn namespaces(spec: &mut Fields<'_>) -> NamespaceOption {
    let host = |host: bool, other: NamespaceMode| if host { NamespaceMode::Node } else { other };
    let shared = spec.flag("shareProcessNamespace");
    let host_pid = spec.flag("hostPID");
    if shared && host_pid {
        spec.refuse("shareProcessNamespace", "hostPID says otherwise");
    }
    if spec.maybe_flag("hostUsers") == Some(false) {
        spec.refuse("hostUsers", "`isopod run` gives no ranges of user ids");
    }
    let pid = if shared { NamespaceMode::Pod } else { NamespaceMode::Container };
    NamespaceOption {
        network: host(spec.flag("hostNetwork"), NamespaceMode::Pod).into(),
        pid: host(host_pid, pid).into(),
        ipc: host(spec.flag("hostIPC"), NamespaceMode::Pod).into(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "00000000-0000-4000-8000-000000000000";

    fn planned(text: &str) -> Result<Plan, Vec<String>> {
        plan(text, UID, Path::new("/pods/x"))
    }

    const GOOD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: { app: web }
  creationTimestamp: null
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  hostNetwork: false
  shareProcessNamespace: true
  dnsPolicy: None
  dnsConfig:
    nameservers: [192.0.2.1]
    options: [{ name: ndots, value: "2" }, { name: rotate }]
  securityContext:
    runAsUser: 1000
    supplementalGroups: [7]
    sysctls: [{ name: net.core.somaxconn, value: "128" }]
  volumes:
  - { name: data, emptyDir: {} }
  - { name: etc, hostPath: { path: /etc } }
  initContainers:
  - { name: first, image: "busybox:1.36", command: [touch, /data/x], volumeMounts: [{ name: data, mountPath: /data }] }
  containers:
  - name: main
    image: busybox
    args: ["$(WHO)", $$HOME]
    env:
    - { name: WHO, value: me }
    - { name: HI, value: "hi $(WHO)" }
    - { name: POD, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
    ports: [{ containerPort: 80, hostPort: 8080, protocol: UDP }, { containerPort: 81, name: info }]
    resources: { limits: { cpu: 500m, memory: 64Mi }, requests: { cpu: 0.25 } }
    volumeMounts: [{ name: etc, mountPath: /host, readOnly: true, subPath: ssl }]
    securityContext:
      runAsNonRoot: true
      allowPrivilegeEscalation: false
      capabilities: { drop: [ALL] }
      seccompProfile: { type: Localhost, localhostProfile: /p.json }
    lifecycle: { stopSignal: SIGUSR1 }
status: {}
"#;

    #[test]
    fn what_can_be_honoured_is_in_the_plan() {
        let plan = planned(GOOD).unwrap();
        assert_eq!(plan.grace, 5);
        let dns = plan.sandbox.dns_config.unwrap();
        assert_eq!(dns.options, ["ndots:2", "rotate"]);
        assert_eq!(plan.sandbox.port_mappings.len(), 1, "only ports of the host are published");
        assert_eq!(plan.sandbox.labels["app"], "web");
        assert!(plan.directories.contains(&"/pods/x/volumes/data".into()));
        let [main] = &plan.containers[..] else { panic!("one container") };
        assert_eq!(main.config.args, ["me", "$HOME"]);
        assert_eq!(main.config.envs[1].value, "hi me");
        assert_eq!(main.config.envs[2].value, "web");
        assert_eq!(main.pull, super::super::run::PullWhen::Always, "no tag means latest");
        assert_eq!(main.config.mounts[0].host_path, "/etc/ssl");
        let linux = main.config.linux.as_ref().unwrap();
        let resources = linux.resources.as_ref().unwrap();
        assert_eq!((resources.cpu_quota, resources.cpu_shares), (50_000, 256));
        assert_eq!(resources.memory_limit_in_bytes, 64 << 20);
        let context = linux.security_context.as_ref().unwrap();
        assert_eq!(context.run_as_user.unwrap().value, 1000);
        assert!(context.no_new_privs);
        assert_eq!(context.namespace_options.as_ref().unwrap().pid(), NamespaceMode::Pod);
        assert_eq!(main.config.stop_signal(), cri_api::v1::Signal::Sigusr1);
        assert_eq!(plan.init[0].config.command, ["touch", "/data/x"]);
    }

    #[test]
    fn what_cannot_be_honoured_is_named_with_its_path() {
        let table = [
            (
                "spec: { restartPolicy: Always, containers: [{ name: a, image: b }] }",
                "spec.restartPolicy",
            ),
            ("spec: { nodeName: n1, containers: [{ name: a, image: b }] }", "spec.nodeName"),
            (
                "spec: { containers: [{ name: a, image: b, livenessProbe: { exec: {} } }] }",
                "spec.containers[0].livenessProbe",
            ),
            (
                "spec: { containers: [{ name: a, image: b, env: [{ name: X, valueFrom: { secretKeyRef: { name: s } } }] }] }",
                "spec.containers[0].env[0].valueFrom.secretKeyRef",
            ),
            (
                "spec: { volumes: [{ name: v, configMap: { name: c } }], containers: [{ name: a, image: b }] }",
                "spec.volumes[0].configMap",
            ),
            ("spec: { containers: [{ name: a, image: b, tty: 1 }] }", "spec.containers[0].tty"),
            ("spec: { containers: [{ name: a }] }", "spec.containers[0].image"),
            ("spec: { containers: [{ name: A_b, image: b }] }", "spec.containers[0].name"),
            ("spec: { containers: [] }", "spec.containers"),
            (
                "spec: { containers: [{ name: a, image: b }, { name: a, image: b }] }",
                "spec.containers",
            ),
            (
                "spec: { containers: [{ name: a, image: b, volumeMounts: [{ name: v, mountPath: /v }] }] }",
                "spec.containers[0].volumeMounts[0].name",
            ),
            (
                "spec: { containers: [{ name: a, image: b, resources: { limits: { cpu: lots } } }] }",
                "spec.containers[0].resources.limits.cpu",
            ),
        ];
        for (spec, path) in table {
            let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{ name: x }}\n{spec}\n");
            let problems = planned(&text).unwrap_err();
            let named = problems.iter().any(|problem| problem.starts_with(&format!("{path}: ")));
            assert!(named, "{path} is not in {problems:?}");
        }
    }

    #[test]
    fn other_documents_are_refused() {
        for text in ["", "a: [", "kind: Deployment\napiVersion: apps/v1", "- 1", "a: 1\n---\nb: 2"]
        {
            assert!(planned(text).is_err(), "{text:?}");
        }
    }
}
