//! Mounts: the options of the runtime specification as kernel flags.

use std::path::{Component, PathBuf};

use model::IdMapping;
use sys::MountAttr;

use super::BadSpec;

/// A mount to be, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// Where, absolute inside, without `..`.
    pub destination: PathBuf,
    /// What.
    pub source: Source,
    /// Flags of the mount itself.
    pub attributes: Attributes,
    /// Flags of the mount and of all below it.
    pub recursive: Attributes,
    /// Propagation type (`MS_*`), and whether it is meant for all below too.
    pub propagation: Option<(u64, bool)>,
    /// Whose ids it shows.
    pub ids: Option<MountIds>,
}

/// An id mapping of a mount. Without ranges it is that of the pod's user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountIds {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
    /// For the mounts below it too.
    pub recursive: bool,
}

/// Where a mount's content comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path outside.
    Bind {
        /// The path.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A new instance of a file system.
    Filesystem {
        /// Its type.
        kind: String,
        /// Its source: a device, or a word for show.
        source: String,
        /// Its own parameters.
        data: Vec<(String, Option<String>)>,
        /// Whether it begins with what the image has at its place (`tmpcopyup`).
        copies_up: bool,
    },
    /// The view of the cgroups that fits the hierarchy in use.
    Cgroup,
}

/// `MOUNT_ATTR_*` bits to set and to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Set.
    pub set: u64,
    /// Cleared.
    pub clear: u64,
}

impl Attributes {
    fn set(&mut self, bits: u64) {
        self.set |= bits;
        self.clear &= !bits;
    }

    fn clear(&mut self, bits: u64) {
        self.clear |= bits;
        self.set &= !bits;
    }

    fn atime(&mut self, mode: u64) {
        self.set = self.set & !MountAttr::ATIME_MASK | mode;
        self.clear |= MountAttr::ATIME_MASK;
    }

    /// Whether nothing changes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

impl MountPlan {
    pub(super) fn read(index: usize, mount: &runtime_spec::Mount) -> Result<Self, BadSpec> {
        let field = |name: &str| format!("mounts[{index}].{name}");
        let clean = mount
            .destination
            .components()
            .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !mount.destination.is_absolute() || !clean {
            return Err(BadSpec::new(field("destination"), "must be absolute and without `..`"));
        }
        let mut options = Options::default();
        for option in &mount.options {
            options.take(option).map_err(|problem| BadSpec::new(field("options"), problem))?;
        }
        let is_bind = options.bind.is_some() || matches!(mount.kind.as_str(), "bind" | "none" | "");
        let source = match mount.kind.as_str() {
            _ if is_bind => {
                let path = PathBuf::from(&mount.source);
                if !path.is_absolute() {
                    return Err(BadSpec::new(field("source"), "of a bind mount must be absolute"));
                }
                if let Some((name, _)) = options.data.first() {
                    return Err(BadSpec::new(
                        field("options"),
                        format!("{name:?} means nothing to a bind mount"),
                    ));
                }
                Source::Bind { path, recursive: options.bind.unwrap_or(false) }
            }
            "cgroup" | "cgroup2" => Source::Cgroup,
            kind => Source::Filesystem {
                kind: kind.to_owned(),
                source: mount.source.clone(),
                copies_up: options.copies_up,
                data: options.data,
            },
        };
        if options.copies_up
            && !matches!(&source, Source::Filesystem { kind, .. } if kind == "tmpfs")
        {
            return Err(BadSpec::new(field("options"), "\"tmpcopyup\" is for a tmpfs"));
        }
        let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
        if mapped && (mount.uid_mappings.is_empty() || mount.gid_mappings.is_empty()) {
            return Err(BadSpec::new(field("uidMappings"), "must come with gidMappings"));
        }
        let ids = (mapped || options.idmap.is_some()).then(|| MountIds {
            uids: mount.uid_mappings.iter().map(range).collect(),
            gids: mount.gid_mappings.iter().map(range).collect(),
            recursive: options.idmap.unwrap_or(false),
        });
        if ids.is_some() && !is_bind {
            return Err(BadSpec::new(field("uidMappings"), "are for bind mounts"));
        }
        Ok(Self {
            ids,
            destination: mount.destination.clone(),
            source,
            attributes: options.attributes,
            recursive: options.recursive,
            propagation: options.propagation,
        })
    }
}

const fn range(map: &runtime_spec::IdMap) -> IdMapping {
    IdMapping { container_id: map.container_id, host_id: map.host_id, length: map.size }
}

#[derive(Default)]
struct Options {
    idmap: Option<bool>,
    attributes: Attributes,
    recursive: Attributes,
    propagation: Option<(u64, bool)>,
    bind: Option<bool>,
    copies_up: bool,
    data: Vec<(String, Option<String>)>,
}

impl Options {
    fn take(&mut self, option: &str) -> Result<(), String> {
        if self.take_attribute(option) || self.take_kind(option) {
            return Ok(());
        }
        match option {
            "defaults" | "async" | "nomand" | "loud" => Ok(()),
            "idmap" | "ridmap" => {
                self.idmap = Some(option == "ridmap");
                Ok(())
            }
            "tmpcopyup" => {
                self.copies_up = true;
                Ok(())
            }
            "remount" | "move" => Err(format!("{option:?} is not supported by this launcher")),
            _ if option.is_empty() || option.contains('\0') => {
                Err("an empty option, or one with a NUL".to_owned())
            }
            _ => {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (option, None),
                };
                self.data.push((name.to_owned(), value));
                Ok(())
            }
        }
    }

    fn take_attribute(&mut self, option: &str) -> bool {
        const PLAIN: [(&str, &str, u64); 6] = [
            ("ro", "rw", MountAttr::READ_ONLY),
            ("nosuid", "suid", MountAttr::NO_SUID),
            ("nodev", "dev", MountAttr::NO_DEV),
            ("noexec", "exec", MountAttr::NO_EXEC),
            ("nodiratime", "diratime", MountAttr::NO_DIR_ATIME),
            ("nosymfollow", "symfollow", MountAttr::NO_SYMFOLLOW),
        ];
        // `rro` and the like mean the mounts below too; `rw` and `ro` themselves begin with an r.
        for (prefix, attributes) in [("", &mut self.attributes), ("r", &mut self.recursive)] {
            let Some(name) = option.strip_prefix(prefix) else { continue };
            for (on, off, bit) in PLAIN {
                if name == on {
                    attributes.set(bit);
                    return true;
                }
                if name == off {
                    attributes.clear(bit);
                    return true;
                }
            }
            match name {
                "noatime" => attributes.atime(MountAttr::NO_ATIME),
                "strictatime" => attributes.atime(MountAttr::STRICT_ATIME),
                "relatime" | "atime" => attributes.atime(0),
                _ => continue,
            }
            return true;
        }
        false
    }

    fn take_kind(&mut self, option: &str) -> bool {
        let propagation = match option.strip_prefix('r').unwrap_or(option) {
            "private" => MountAttr::PRIVATE,
            "slave" => MountAttr::SLAVE,
            "shared" => MountAttr::SHARED,
            "unbindable" => MountAttr::UNBINDABLE,
            "bind" => {
                self.bind = Some(option == "rbind");
                return true;
            }
            _ => return false,
        };
        self.propagation = Some((propagation, option.starts_with('r')));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, source: &str, options: &[&str]) -> Result<MountPlan, BadSpec> {
        let mount = runtime_spec::Mount {
            destination: "/data".into(),
            kind: kind.into(),
            source: source.into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        };
        MountPlan::read(0, &mount)
    }

    #[test]
    fn options_become_flags_of_this_mount_or_of_all_below() {
        let plan =
            read("bind", "/srv", &["rbind", "ro", "rro", "nosuid", "rprivate", "noatime"]).unwrap();
        assert_eq!(plan.source, Source::Bind { path: "/srv".into(), recursive: true });
        assert_eq!(
            plan.attributes.set,
            MountAttr::READ_ONLY | MountAttr::NO_SUID | MountAttr::NO_ATIME
        );
        assert_eq!(plan.recursive.set, MountAttr::READ_ONLY);
        assert_eq!(plan.propagation, Some((MountAttr::PRIVATE, true)));
    }

    #[test]
    fn the_last_of_two_contrary_options_wins() {
        let plan = read("bind", "/srv", &["bind", "ro", "rw", "noexec", "exec"]).unwrap();
        assert_eq!(plan.attributes.set, 0);
        assert_eq!(plan.attributes.clear, MountAttr::READ_ONLY | MountAttr::NO_EXEC);
    }

    #[test]
    fn what_the_vfs_does_not_know_goes_to_the_file_system() {
        let plan =
            read("tmpfs", "tmpfs", &["nosuid", "mode=755", "size=64k", "nr_inodes=5"]).unwrap();
        let Source::Filesystem { kind, data, .. } = plan.source else {
            panic!("not a file system")
        };
        assert_eq!(kind, "tmpfs");
        assert_eq!(data[0], ("mode".to_owned(), Some("755".to_owned())));
        assert_eq!(data.len(), 3);
    }

    #[test]
    fn bad_mounts_are_refused() {
        for (kind, source, options) in [
            ("bind", "relative", &["bind"][..]),
            ("bind", "/srv", &["bind", "size=3"]),
            ("bind", "/srv", &["bind", "remount"]),
            ("tmpfs", "tmpfs", &["idmap"]),
            ("tmpfs", "tmpfs", &[""]),
        ] {
            assert!(read(kind, source, options).is_err(), "{kind} {source} {options:?}");
        }
        let escaping =
            runtime_spec::Mount { destination: "/a/../../b".into(), ..Default::default() };
        assert_eq!(MountPlan::read(3, &escaping).unwrap_err().field, "mounts[3].destination");
    }
}
