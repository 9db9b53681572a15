//! What this kernel can do.

/// Features that not every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Mounts can be made read-only with all below them: mount_setattr(2), since Linux 5.12.
    pub recursive_read_only: bool,
    /// Containers can have users of their own: mappings of overlay file systems, since Linux 5.19, and
    /// user namespaces are not forbidden.
    pub user_namespaces: bool,
}

impl Features {
    /// Those of the kernel that runs.
    pub fn of_this_machine() -> Self {
        let release = rustix::system::uname();
        let version = version(&release.release().to_string_lossy());
        let allowed = std::fs::read_to_string("/proc/sys/user/max_user_namespaces")
            .is_ok_and(|text| text.trim() != "0");
        Self {
            recursive_read_only: version >= (5, 12),
            user_namespaces: version >= (5, 19) && allowed,
        }
    }
}

/// The first two numbers of a release such as `6.1.0-44-cloud-amd64`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_versions() {
        for (release, want) in [
            ("6.1.0-44-cloud-amd64", (6, 1)),
            ("5.10.0", (5, 10)),
            ("6.12-rc1", (6, 12)),
            ("strange", (0, 0)),
        ] {
            assert_eq!(version(release), want, "{release}");
        }
    }
}
