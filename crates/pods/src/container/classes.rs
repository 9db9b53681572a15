//! Which classes a container is in, and what that means in its spec. Pure.

use std::collections::BTreeMap;

use model::{ContainerConfig, CpuList};
use runtime_spec::{BlockIo, CpuAffinity, IntelRdt, Spec};

use crate::annotations;
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
    /// A list.
    exec_cpus: Option<String>,
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

/// Chooses for `container` of a pod with the annotations `pod`, on a machine with the CPUs `online`.
///
/// # Errors
/// What is wrong with which annotation.
pub(super) fn choose(
    classes: &Classes,
    container: &ContainerConfig,
    pod: &Annotations,
    online: Option<&CpuList>,
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
    let own = container.resources.cpuset_cpus.as_deref().and_then(CpuList::parse);
    let exec_cpus = match annotated {
        Some(text) => annotated_cpus(text, own.as_ref().or(online))?,
        None => match &classes.exec_cpus {
            // All containers of the node on one CPU is not what it says.
            Some(ExecCpus::First) => own.map(|own| own.first().to_string()),
            Some(ExecCpus::List(list)) => Some(list.clone()),
            None => None,
        },
    };
    Ok(Chosen { rdt, block_io, exec_cpus })
}

/// What the annotation [`EXEC_CPUS`] asks for, of a container that may use the CPUs `usable`.
fn annotated_cpus(text: &str, usable: Option<&CpuList>) -> Result<Option<String>, String> {
    let bad = |problem: &str| {
        let shown: String = text.chars().take(40).collect();
        Err(format!("annotation {EXEC_CPUS} is {shown:?}: {problem}"))
    };
    if text == "first" {
        return Ok(usable.map(|usable| usable.first().to_string()));
    }
    let Some(list) = CpuList::parse(text) else {
        return bad("\"first\" or a list such as \"0-1\" is needed");
    };
    match usable.and_then(|usable| Some((list.first_outside(usable)?, usable))) {
        None => Ok(Some(text.to_owned())),
        Some((cpu, usable)) => {
            bad(&format!("the container may use the CPUs {usable}, and {cpu} is none of them"))
        }
    }
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
        if let (Some(cpus), Some(process)) = (&self.exec_cpus, &mut spec.process) {
            let (initial, final_) = (String::new(), cpus.clone());
            process.exec_cpu_affinity = Some(CpuAffinity { initial, final_ });
        }
    }
}

/// The annotations that a handler's runtime gets to see: those of the pod, and over them the container's own.
pub(super) fn passed(
    patterns: &[String],
    container: &Annotations,
    pod: &Annotations,
) -> Annotations {
    let is_passed = |name: &str| annotations::is_passed(patterns, name);
    let all = pod.iter().chain(container).filter(|(name, _)| is_passed(name));
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use runtime_spec::Process;

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
            let chosen = choose(&classes(), &container, &annotations(pod), None).unwrap();
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
            let container = container_config("main", 0);
            let error = choose(&classes(), &container, &pod, None).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    /// The CPUs of execs of a container with the cpuset `own` on a machine with the CPUs 0 to 3.
    fn exec_cpus(
        annotation: Option<&str>,
        node: Option<ExecCpus>,
        own: &str,
    ) -> Result<Option<String>, String> {
        let pod: Vec<_> = annotation.iter().map(|text| (EXEC_CPUS, *text)).collect();
        let mut container = container_config("main", 0);
        container.resources.cpuset_cpus = Some(own.to_owned()).filter(|own| !own.is_empty());
        let classes = Classes { exec_cpus: node, ..Classes::default() };
        let online = CpuList::parse("0-3");
        let chosen = choose(&classes, &container, &annotations(&pod), online.as_ref())?;
        let mut spec = Spec { process: Some(Process::default()), ..Spec::default() };
        chosen.apply(&mut spec, None);
        Ok(spec.process.unwrap().exec_cpu_affinity.map(|a| a.final_))
    }

    #[test]
    fn cpus_of_execs_are_among_those_that_the_container_may_use() {
        for (annotation, own, expected) in
            [("1-2", "0-3", "1-2"), ("1", "", "1"), ("first", "2-3,5", "2"), ("first", "", "0")]
        {
            let chosen = exec_cpus(Some(annotation), None, own).unwrap();
            assert_eq!(chosen.as_deref(), Some(expected), "{annotation} {own}");
        }
        for (annotation, own, told) in [
            ("50-60", "", "the CPUs 0-3, and 50 "),
            ("0-99", "", "the CPUs 0-3, and 4 "),
            ("1", "0", "the CPUs 0, and 1 "),
            ("", "", "a list such as"),
            ("1,x", "", "a list such as"),
        ] {
            let error = exec_cpus(Some(annotation), None, own).unwrap_err();
            assert!(error.contains(EXEC_CPUS) && error.contains(told), "{error}");
        }
    }

    #[test]
    fn the_nodes_first_cpu_is_of_a_cpuset_of_the_containers_own() {
        let first = |own| exec_cpus(None, Some(ExecCpus::First), own).unwrap();
        assert_eq!((first("2-3"), first("")), (Some("2".to_owned()), None));
        let list = exec_cpus(None, Some(ExecCpus::List("0-9".to_owned())), "").unwrap();
        assert_eq!(list.as_deref(), Some("0-9"), "as far as there are these");
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
