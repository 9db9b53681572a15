//! Which classes a container is in, and what that means in its spec. Pure.

use std::collections::BTreeMap;

use model::ContainerConfig;
use runtime_spec::{BlockIo, CpuAffinity, IntelRdt, Spec};

use crate::config::{BlockIoClass, Classes, ExecCpus};

/// Annotations that name a class: of the container itself, and of its pod for one container or for all.
#[derive(Clone, Copy)]
struct Keys {
    own: &'static str,
    of_pod: &'static str,
}

const RDT: Keys =
    Keys { own: "io.kubernetes.cri.rdt-class", of_pod: "rdt.resources.beta.kubernetes.io" };
const BLOCK_IO: Keys =
    Keys { own: "io.kubernetes.cri.blockio-class", of_pod: "blockio.resources.beta.kubernetes.io" };
/// CPUs of execs, on a container or a pod.
const EXEC_CPUS: &str = "isopod.dev/exec-cpus";

/// The classes of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chosen {
    rdt: Option<IntelRdt>,
    /// Its devices are still to be found on the host.
    pub(super) block_io: Option<BlockIoClass>,
    exec_cpus: Option<ExecCpus>,
}

type Annotations = BTreeMap<String, String>;

/// The class that the annotations name, else the default.
fn class<'a>(
    keys: Keys,
    container: &'a ContainerConfig,
    pod: &'a Annotations,
    default: Option<&'a str>,
) -> Option<&'a str> {
    let for_this = format!("{}/container.{}", keys.of_pod, container.metadata.name);
    let own = container.annotations.get(keys.own);
    let found = own
        .or_else(|| pod.get(&for_this))
        .or_else(|| pod.get(&format!("{}/pod", keys.of_pod)))
        .map(String::as_str);
    found.or(default)
}

/// Chooses for `container` of a pod with the annotations `pod`.
///
/// # Errors
/// What is wrong with which annotation.
pub(super) fn choose(
    classes: &Classes,
    container: &ContainerConfig,
    pod: &Annotations,
) -> Result<Chosen, String> {
    let unknown = |what: &str, name: &str| {
        format!("the {what} class {name:?} is not one of this node's configuration")
    };
    let rdt = match class(RDT, container, pod, classes.rdt_default.as_deref()) {
        None => None,
        Some(name) => {
            let known = classes.rdt.get(name).ok_or_else(|| unknown("RDT", name))?;
            Some(IntelRdt {
                clos_id: name.to_owned(),
                l3_cache_schema: known.l3.clone(),
                mem_bw_schema: known.bandwidth.clone(),
                schemata: Vec::new(),
            })
        }
    };
    let block_io = match class(BLOCK_IO, container, pod, classes.block_io_default.as_deref()) {
        None => None,
        Some(name) => {
            Some(classes.block_io.get(name).ok_or_else(|| unknown("block I/O", name))?.clone())
        }
    };
    let annotated = container.annotations.get(EXEC_CPUS).or_else(|| pod.get(EXEC_CPUS));
    let exec_cpus = match annotated {
        None => classes.exec_cpus.clone(),
        Some(text) => Some(ExecCpus::parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            format!(
                "annotation {EXEC_CPUS} is {shown:?}: \"first\" or a list such as \"0-1\" is needed"
            )
        })?),
    };
    Ok(Chosen { rdt, block_io, exec_cpus })
}

impl Chosen {
    /// Writes them into `spec`; `block_io` has the devices as they were found.
    pub(super) fn apply(&self, spec: &mut Spec, block_io: Option<&BlockIo>) {
        let linux = spec.linux.get_or_insert_default();
        if let Some(rdt) = &self.rdt {
            linux.intel_rdt = Some(rdt.clone());
        }
        let limits = linux.resources.get_or_insert_default();
        if let Some(block_io) = block_io {
            limits.block_io = Some(block_io.clone());
        }
        let cpus = match &self.exec_cpus {
            None => None,
            Some(ExecCpus::List(list)) => Some(list.clone()),
            Some(ExecCpus::First) => {
                let own = limits.cpu.as_ref().map(|cpu| cpu.cpus.as_str()).unwrap_or_default();
                let first = own.split([',', '-']).next().unwrap_or_default();
                Some(first.to_owned()).filter(|first| !first.is_empty())
            }
        };
        if let (Some(cpus), Some(process)) = (cpus, &mut spec.process) {
            process.exec_cpu_affinity = Some(CpuAffinity { initial: String::new(), final_: cpus });
        }
    }
}

/// The annotations that a handler's runtime gets to see: those of the pod, and over them the container's own.
pub(super) fn passed(
    patterns: &[String],
    container: &Annotations,
    pod: &Annotations,
) -> Annotations {
    let is_passed = |name: &str| {
        patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        })
    };
    let all = pod.iter().chain(container).filter(|(name, _)| is_passed(name));
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use runtime_spec::{Cpu, Linux, Process, Resources};

    use super::*;
    use crate::config::RdtClass;
    use crate::records::tests::container_config;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn classes() -> Classes {
        let rdt = |l3: &str| RdtClass { l3: l3.to_owned(), bandwidth: String::new() };
        let io = |weight| BlockIoClass { weight: Some(weight), ..BlockIoClass::default() };
        Classes {
            rdt: [("gold".to_owned(), rdt("L3:0=ff")), ("tin".to_owned(), rdt("L3:0=1"))].into(),
            rdt_default: Some("tin".to_owned()),
            block_io: [("fast".to_owned(), io(900)), ("slow".to_owned(), io(20))].into(),
            ..Classes::default()
        }
    }

    #[test]
    fn a_containers_own_annotation_wins_over_its_pods_and_that_over_the_default() {
        let weight = |own: &[(&str, &str)], pod: &[(&str, &str)]| {
            let mut container = container_config("main", 0);
            container.annotations = annotations(own);
            let chosen = choose(&classes(), &container, &annotations(pod)).unwrap();
            (chosen.rdt.unwrap().clos_id, chosen.block_io.and_then(|io| io.weight))
        };
        let pod = [
            ("blockio.resources.beta.kubernetes.io/pod", "slow"),
            ("rdt.resources.beta.kubernetes.io/container.main", "gold"),
            ("rdt.resources.beta.kubernetes.io/container.other", "none"),
        ];
        assert_eq!(weight(&[], &[]), ("tin".to_owned(), None));
        assert_eq!(weight(&[], &pod), ("gold".to_owned(), Some(20)));
        let own = [("io.kubernetes.cri.blockio-class", "fast")];
        assert_eq!(weight(&own, &pod), ("gold".to_owned(), Some(900)));
    }

    #[test]
    fn a_class_that_the_node_has_not_is_an_error_that_names_it() {
        for (key, named) in [
            ("rdt.resources.beta.kubernetes.io/pod", "RDT class \"lead\""),
            ("blockio.resources.beta.kubernetes.io/pod", "block I/O class \"lead\""),
            ("isopod.dev/exec-cpus", "exec-cpus is \"lead\""),
        ] {
            let pod = annotations(&[(key, "lead")]);
            let error = choose(&classes(), &container_config("main", 0), &pod).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn cpus_of_execs_are_a_list_or_the_first_that_the_container_has() {
        let affinity = |cpus: &str, own: &str| {
            let pod = annotations(&[(EXEC_CPUS, cpus)]);
            let chosen = choose(&Classes::default(), &container_config("main", 0), &pod).unwrap();
            let cpu = Some(Cpu { cpus: own.to_owned(), ..Cpu::default() });
            let resources = Some(Resources { cpu, ..Resources::default() });
            let mut spec = Spec {
                process: Some(Process::default()),
                linux: Some(Linux { resources, ..Linux::default() }),
                ..Spec::default()
            };
            chosen.apply(&mut spec, None);
            spec.process.unwrap().exec_cpu_affinity.map(|a| a.final_)
        };
        assert_eq!(affinity("1-2", "0-3").as_deref(), Some("1-2"));
        assert_eq!(affinity("first", "2-3,5").as_deref(), Some("2"));
        assert_eq!(affinity("first", ""), None);
    }

    #[test]
    fn annotations_are_passed_by_name_or_by_their_beginning() {
        let pod = annotations(&[("a.io/x", "pod"), ("a.io/y", "pod"), ("b.io/z", "pod")]);
        let own = annotations(&[("a.io/x", "own"), ("c", "own")]);
        let patterns = ["a.io/*", "c"].map(str::to_owned);
        let expected = annotations(&[("a.io/x", "own"), ("a.io/y", "pod"), ("c", "own")]);
        assert_eq!(passed(&patterns, &own, &pod), expected);
        assert!(passed(&[], &own, &pod).is_empty());
    }
}
