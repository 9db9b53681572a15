//! `NamespaceOption`.

use cri_api::v1;
use cri_api::v1::NamespaceMode as Mode;
use model::{ContainerId, IdMapping, IpcMode, Namespaces, NetworkMode, PidMode, UserNamespace};

use super::{At, BadField};

/// Whose namespaces are meant. A sandbox has no other container to share with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Sandbox,
    Container,
}

/// The namespaces; where nothing is said, the zero values of the wire count: the pod's own.
pub(super) fn namespaces(
    at: At<'_>,
    given: Option<&v1::NamespaceOption>,
    whose: Whose,
) -> Result<Namespaces, BadField> {
    let nothing = v1::NamespaceOption::default();
    let given = given.unwrap_or(&nothing);
    let network = match mode(at.to("network"), given.network)? {
        Mode::Pod => NetworkMode::Pod,
        Mode::Node => NetworkMode::Node,
        other @ (Mode::Container | Mode::Target) => {
            return Err(at.to("network").bad(other.as_str_name(), "POD or NODE is needed"));
        }
    };
    let pid = match (mode(at.to("pid"), given.pid)?, whose) {
        (Mode::Pod, _) => PidMode::Pod,
        (Mode::Container, _) => PidMode::Container,
        (Mode::Node, _) => PidMode::Node,
        (Mode::Target, Whose::Container) => {
            PidMode::Target(ContainerId::parse(&given.target_id).map_err(|_| {
                at.to("target_id").bad(&given.target_id, "a container's id is needed")
            })?)
        }
        (Mode::Target, Whose::Sandbox) => {
            return Err(at.to("pid").bad("TARGET", "a sandbox has POD, CONTAINER or NODE"));
        }
    };
    if !given.target_id.is_empty() && !matches!(pid, PidMode::Target(_)) {
        let expected = "only with the pid mode TARGET";
        return Err(at.to("target_id").bad(&given.target_id, expected));
    }
    let ipc = match mode(at.to("ipc"), given.ipc)? {
        Mode::Pod => IpcMode::Pod,
        Mode::Container => IpcMode::Container,
        Mode::Node => IpcMode::Node,
        Mode::Target => {
            return Err(at.to("ipc").bad("TARGET", "POD, CONTAINER or NODE is needed"));
        }
    };
    let user = user_namespace(at.to("userns_options"), given.userns_options.as_ref())?;
    Ok(Namespaces { network, pid, ipc, user })
}

fn mode(at: At<'_>, given: i32) -> Result<Mode, BadField> {
    Mode::try_from(given).map_err(|_| at.bad(given, "not a namespace mode"))
}

fn user_namespace(
    at: At<'_>,
    given: Option<&v1::UserNamespace>,
) -> Result<UserNamespace, BadField> {
    let Some(given) = given else { return Ok(UserNamespace::Node) };
    match mode(at.to("mode"), given.mode)? {
        Mode::Node if given.uids.is_empty() && given.gids.is_empty() => Ok(UserNamespace::Node),
        Mode::Node => {
            let count = given.uids.len() + given.gids.len();
            Err(at.to("uids").bad(count, "the host's user namespace has no mappings"))
        }
        Mode::Pod => {
            let uids = whole_range(at.to("uids"), &given.uids)?;
            let gids = whole_range(at.to("gids"), &given.gids)?;
            if uids.length != gids.length {
                return Err(at.to("gids").bad(gids.length, "as many ids as uids are needed"));
            }
            Ok(UserNamespace::Pod { uids, gids })
        }
        other @ (Mode::Container | Mode::Target) => {
            Err(at.to("mode").bad(other.as_str_name(), "POD or NODE is needed"))
        }
    }
}

fn whole_range(at: At<'_>, given: &[v1::IdMapping]) -> Result<IdMapping, BadField> {
    let [one] = given else {
        return Err(at.bad(given.len(), "exactly one mapping is needed"));
    };
    let mapping = id_mapping(at, one)?;
    if mapping.container_id == 0 {
        Ok(mapping)
    } else {
        Err(at.bad(mapping.container_id, "the range must begin at id 0 inside"))
    }
}

/// One range of ids, which must be in the numbers' range on both sides.
pub(super) fn id_mapping(at: At<'_>, given: &v1::IdMapping) -> Result<IdMapping, BadField> {
    let fits = |first: u32| first.checked_add(given.length).is_some();
    if given.length == 0 || !fits(given.host_id) || !fits(given.container_id) {
        let text = format!("{}:{}:{}", given.container_id, given.host_id, given.length);
        return Err(at.bad(text, "a range of at least one id below 4294967295 is needed"));
    }
    Ok(IdMapping { container_id: given.container_id, host_id: given.host_id, length: given.length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(network: Mode, pid: Mode, ipc: Mode) -> v1::NamespaceOption {
        v1::NamespaceOption {
            network: network.into(),
            pid: pid.into(),
            ipc: ipc.into(),
            ..Default::default()
        }
    }

    fn range(container_id: u32, host_id: u32, length: u32) -> v1::IdMapping {
        v1::IdMapping { host_id, container_id, length }
    }

    #[test]
    fn what_is_not_said_is_the_pods_own() {
        let got = namespaces(At::field("n"), None, Whose::Sandbox).unwrap();
        assert_eq!(got.pid, PidMode::Pod);
        assert_eq!(got.network, NetworkMode::Pod);
        assert_eq!(got.user, UserNamespace::Node);
    }

    #[test]
    fn modes_that_make_no_sense_are_refused_by_field() {
        use Mode::{Container, Node, Pod, Target};
        let target = v1::NamespaceOption { target_id: "xyz".into(), ..option(Pod, Target, Pod) };
        let stray = v1::NamespaceOption { target_id: "ab".repeat(32), ..option(Pod, Pod, Pod) };
        for (given, whose, field) in [
            (option(Container, Pod, Pod), Whose::Sandbox, "n.network"),
            (option(Target, Pod, Pod), Whose::Container, "n.network"),
            (option(Pod, Target, Pod), Whose::Sandbox, "n.pid"),
            (option(Pod, Target, Pod), Whose::Container, "n.target_id"),
            (target, Whose::Container, "n.target_id"),
            (stray, Whose::Container, "n.target_id"),
            (option(Node, Node, Target), Whose::Container, "n.ipc"),
        ] {
            let bad = namespaces(At::field("n"), Some(&given), whose).unwrap_err();
            assert_eq!(bad.field, field, "{bad}");
        }
        let unknown = v1::NamespaceOption { network: 9, ..Default::default() };
        let bad = namespaces(At::field("n"), Some(&unknown), Whose::Sandbox).unwrap_err();
        assert_eq!((bad.field.as_str(), bad.given.as_str()), ("n.network", "9"));
    }

    #[test]
    fn a_user_namespace_has_one_range_each_of_the_same_length_from_zero() {
        let with = |mode: Mode, uids: &[v1::IdMapping], gids: &[v1::IdMapping]| {
            let given = v1::NamespaceOption {
                userns_options: Some(v1::UserNamespace {
                    mode: mode.into(),
                    uids: uids.to_vec(),
                    gids: gids.to_vec(),
                }),
                ..Default::default()
            };
            namespaces(At::field("n"), Some(&given), Whose::Sandbox)
        };
        let good = range(0, 65536, 65536);
        let got = with(Mode::Pod, &[good], &[good]).unwrap();
        assert!(matches!(got.user, UserNamespace::Pod { uids, .. } if uids.host_id == 65536));
        assert_eq!(with(Mode::Node, &[], &[]).unwrap().user, UserNamespace::Node);
        for (mode, uids, gids) in [
            (Mode::Pod, vec![], vec![]),
            (Mode::Pod, vec![good, good], vec![good]),
            (Mode::Pod, vec![good], vec![range(0, 65536, 1)]),
            (Mode::Pod, vec![range(1, 65536, 9)], vec![range(1, 65536, 9)]),
            (Mode::Pod, vec![range(0, u32::MAX, 9)], vec![good]),
            (Mode::Pod, vec![range(0, 1, 0)], vec![range(0, 1, 0)]),
            (Mode::Node, vec![good], vec![good]),
            (Mode::Container, vec![], vec![]),
        ] {
            assert!(with(mode, &uids, &gids).is_err(), "{mode:?} {uids:?} {gids:?} was accepted");
        }
    }
}
