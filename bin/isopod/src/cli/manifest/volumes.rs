//! Volumes of a pod, and where containers have them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cri_api::v1::{Mount, MountPropagation};

use super::fields::Fields;
use crate::cli::run;

/// The volumes of a pod by name, as paths of the host.
pub type Volumes = BTreeMap<String, PathBuf>;

/// Reads the pod's volumes; directories that have to be made are added to `make`.
pub fn of_pod(spec: &mut Fields<'_>, directory: &Path, make: &mut Vec<PathBuf>) -> Volumes {
    let mut volumes = Volumes::new();
    for mut volume in spec.objects("volumes") {
        let name = volume.required("name");
        // Names become directories.
        if !is_label(name) {
            volume.refuse("name", "a name is small letters, digits and dashes");
            continue;
        }
        let path = if let Some(mut host) = volume.object("hostPath") {
            host_path(&mut host, make)
        } else if let Some(mut empty) = volume.object("emptyDir") {
            match empty.text("medium") {
                None | Some("") => {}
                Some(_) => empty.refuse("medium", "`isopod run` makes directories on disk only"),
            }
            let path = run::volumes(directory).join(name);
            make.push(path.clone());
            path
        } else {
            volume.refuse("name", "a volume is hostPath or emptyDir here");
            continue;
        };
        if volumes.insert(name.to_owned(), path).is_some() {
            volume.refuse("name", "another volume has this name");
        }
    }
    volumes
}

fn host_path(host: &mut Fields<'_>, make: &mut Vec<PathBuf>) -> PathBuf {
    let path = PathBuf::from(host.required("path"));
    if !path.is_absolute() {
        host.refuse("path", "this begins with /");
    }
    match host.text("type") {
        None | Some("") => {}
        Some("DirectoryOrCreate") => make.push(path.clone()),
        Some("Directory") if path.is_dir() => {}
        Some("File") if path.is_file() => {}
        Some(kind @ ("Directory" | "File")) => {
            host.refuse(
                "path",
                &format!("there is no {} at it on this machine", kind.to_lowercase()),
            );
        }
        Some(_) => host.refuse("type", "this is Directory, DirectoryOrCreate or File here"),
    }
    path
}

/// Reads a container's mounts of them; directories that have to be made are added to `make`.
pub fn of_container(
    container: &mut Fields<'_>,
    volumes: &Volumes,
    make: &mut Vec<PathBuf>,
) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for mut fields in container.objects("volumeMounts") {
        let name = fields.required("name");
        let container_path = fields.required("mountPath").to_owned();
        let Some(volume) = volumes.get(name) else {
            fields.refuse("name", "the pod has no volume of this name");
            continue;
        };
        let host_path = match fields.text("subPath") {
            None | Some("") => volume.clone(),
            Some(sub) => below(&fields, volume, sub, make),
        };
        let readonly = fields.flag("readOnly");
        let recursive = match fields.text("recursiveReadOnly") {
            None | Some("Disabled") => false,
            Some("Enabled" | "IfPossible") if readonly => true,
            Some(_) => {
                fields.refuse("recursiveReadOnly", "this is Disabled, or Enabled with readOnly");
                false
            }
        };
        let propagation = match fields.text("mountPropagation") {
            None | Some("None") => MountPropagation::PropagationPrivate,
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => MountPropagation::PropagationBidirectional,
            Some(_) => {
                fields.refuse("mountPropagation", "this is None, HostToContainer or Bidirectional");
                MountPropagation::PropagationPrivate
            }
        };
        mounts.push(Mount {
            container_path,
            host_path: host_path.to_string_lossy().into_owned(),
            readonly,
            recursive_read_only: recursive,
            propagation: propagation.into(),
            ..Default::default()
        });
    }
    mounts
}

/// A path below a volume, made where it is not there.
fn below(fields: &Fields<'_>, volume: &Path, sub: &str, make: &mut Vec<PathBuf>) -> PathBuf {
    let plain = |part| matches!(part, std::path::Component::Normal(_));
    if !Path::new(sub).components().all(plain) {
        fields.refuse("subPath", "this is a path without .. that does not begin with /");
        return volume.to_owned();
    }
    let path = volume.join(sub);
    if !path.is_file() {
        make.push(path.clone());
    }
    path
}

/// A DNS label (RFC 1123), as Kubernetes has for names.
pub fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = name.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| inner(*b))
}
