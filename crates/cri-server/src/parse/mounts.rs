//! Mounts and devices.

use std::path::PathBuf;

use cri_api::v1;
use model::{Access, Device, DeviceAccess, IdMapping, Mount, MountSource, Propagation};

use super::image::image_spec;
use super::namespaces::id_mapping;
use super::text::{absolute, absolute_or_none, relative};
use super::{At, BadField};

/// Options that `Mount.mount_options` may hold.
const OPTIONS: [&str; 3] = ["noexec", "nodev", "nosuid"];

/// One mount.
pub(super) fn mount(at: At<'_>, given: &v1::Mount) -> Result<Mount, BadField> {
    let container_path = absolute(at.to("container_path"), &given.container_path)?;
    let propagation = propagation(at.to("propagation"), given.propagation)?;
    let source = source(at, given)?;
    let access = access(at, given, propagation, &source)?;
    if given.uid_mappings.is_empty() != given.gid_mappings.is_empty() {
        let count = given.gid_mappings.len();
        return Err(at.to("gidMappings").bad(count, "mappings of both uids and gids, or of none"));
    }
    for option in &given.mount_options {
        if !OPTIONS.contains(&option.as_str()) {
            return Err(at.to("mount_options").bad(option, "noexec, nodev or nosuid is needed"));
        }
    }
    Ok(Mount {
        container_path,
        source,
        access,
        propagation,
        selinux_relabel: given.selinux_relabel,
        uid_mappings: mappings(at, "uidMappings", &given.uid_mappings)?,
        gid_mappings: mappings(at, "gidMappings", &given.gid_mappings)?,
        options: given.mount_options.clone(),
    })
}

fn source(at: At<'_>, given: &v1::Mount) -> Result<MountSource, BadField> {
    // An image without a name is what a caller sends that always fills the message in.
    let image = given.image.as_ref().filter(|image| !image.image.is_empty());
    match image {
        Some(_) if !given.host_path.is_empty() => {
            Err(at.to("host_path").bad(&given.host_path, "only one of it and image"))
        }
        Some(image) => Ok(MountSource::Image {
            image: image_spec(at.to("image"), Some(image))?,
            sub_path: relative(at.to("image_sub_path"), &given.image_sub_path)?,
        }),
        None if !given.image_sub_path.is_empty() => {
            Err(at.to("image_sub_path").bad(&given.image_sub_path, "only with an image"))
        }
        None => Ok(MountSource::HostPath(absolute(at.to("host_path"), &given.host_path)?)),
    }
}

fn access(
    at: At<'_>,
    given: &v1::Mount,
    propagation: Propagation,
    source: &MountSource,
) -> Result<Access, BadField> {
    let recursive = at.to("recursive_read_only");
    match (given.recursive_read_only, given.readonly, propagation) {
        (true, false, _) => Err(recursive.bad(true, "only with readonly")),
        (true, true, Propagation::HostToContainer | Propagation::Bidirectional) => {
            Err(recursive.bad(true, "only with private propagation"))
        }
        (true, true, Propagation::Private) => Ok(Access::RecursiveReadOnly),
        (false, true, _) => Ok(Access::ReadOnly),
        (false, false, _) => Ok(match source {
            MountSource::HostPath(_) => Access::ReadWrite,
            // The content of an image is shared by all that use it.
            MountSource::Image { .. } => Access::ReadOnly,
        }),
    }
}

fn propagation(at: At<'_>, given: i32) -> Result<Propagation, BadField> {
    match v1::MountPropagation::try_from(given) {
        Ok(v1::MountPropagation::PropagationPrivate) => Ok(Propagation::Private),
        Ok(v1::MountPropagation::PropagationHostToContainer) => Ok(Propagation::HostToContainer),
        Ok(v1::MountPropagation::PropagationBidirectional) => Ok(Propagation::Bidirectional),
        Err(_) => Err(at.bad(given, "not a propagation")),
    }
}

fn mappings(
    at: At<'_>,
    name: &'static str,
    given: &[v1::IdMapping],
) -> Result<Vec<IdMapping>, BadField> {
    given.iter().enumerate().map(|(index, one)| id_mapping(at.nth(name, index), one)).collect()
}

/// One device; without a path inside it is where it is on the host.
pub(super) fn device(at: At<'_>, given: &v1::Device) -> Result<Device, BadField> {
    let host_path = absolute(at.to("host_path"), &given.host_path)?;
    let inside: Option<PathBuf> = absolute_or_none(at.to("container_path"), &given.container_path)?;
    let permissions = &given.permissions;
    let access = DeviceAccess::parse(permissions)
        .ok_or_else(|| at.to("permissions").bad(permissions, "letters of r, w and m are needed"))?;
    Ok(Device { container_path: inside.unwrap_or_else(|| host_path.clone()), host_path, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut v1::Mount);

    fn parsed(change: Change) -> Result<Mount, BadField> {
        let mut given = v1::Mount {
            container_path: "/data".into(),
            host_path: "/srv".into(),
            ..Default::default()
        };
        change(&mut given);
        mount(At::field("m"), &given)
    }

    fn image() -> Option<v1::ImageSpec> {
        Some(v1::ImageSpec { image: "data:1".into(), ..Default::default() })
    }

    #[test]
    fn an_image_is_mounted_read_only_whatever_is_asked() {
        let got = parsed(|m| {
            m.host_path.clear();
            m.image = image();
            m.image_sub_path = "a/b".into();
        })
        .unwrap();
        assert_eq!(got.access, Access::ReadOnly);
        assert!(matches!(got.source, MountSource::Image { sub_path, .. } if sub_path == *"a/b"));
    }

    #[test]
    fn malformed_mounts_are_refused_by_field() {
        let table: &[(&str, Change)] = &[
            ("m.container_path", |m| m.container_path = "data".into()),
            ("m.container_path", |m| m.container_path = String::new()),
            ("m.host_path", |m| m.host_path = String::new()),
            ("m.host_path", |m| m.host_path = "/a/../b".into()),
            ("m.host_path", |m| m.image = image()),
            ("m.image_sub_path", |m| m.image_sub_path = "a".into()),
            ("m.image_sub_path", |m| {
                m.host_path.clear();
                m.image = image();
                m.image_sub_path = "../a".into();
            }),
            ("m.propagation", |m| m.propagation = 3),
            ("m.recursive_read_only", |m| m.recursive_read_only = true),
            ("m.recursive_read_only", |m| {
                m.recursive_read_only = true;
                m.readonly = true;
                m.propagation = v1::MountPropagation::PropagationHostToContainer.into();
            }),
            ("m.gidMappings", |m| {
                m.uid_mappings = vec![v1::IdMapping { length: 1, ..Default::default() }];
            }),
            ("m.mount_options", |m| m.mount_options = vec!["exec".into()]),
        ];
        for (field, change) in table {
            let bad = parsed(*change).unwrap_err();
            assert_eq!(bad.field, *field, "{bad}");
        }
    }

    #[test]
    fn a_device_is_where_it_is_on_the_host_unless_said_otherwise() {
        let at = At::field("d");
        let given = v1::Device { host_path: "/dev/fuse".into(), ..Default::default() };
        let got = device(at, &given).unwrap();
        assert_eq!(got.container_path, got.host_path);
        assert_eq!(got.access.to_string(), "rwm");
        let bad = v1::Device { permissions: "x".into(), ..given };
        assert_eq!(device(at, &bad).unwrap_err().field, "d.permissions");
    }
}
