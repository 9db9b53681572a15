//! The guest: Debian packages in a file system, its kernel and its initrd, made once and kept.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Outcome, output, run, succeeds, target};
use crate::setup;

/// The release of Debian in the guest: systemd 257, Linux 6.12, runc and crun of 2025.
const SUITE: &str = "trixie";
/// What the host needs for it.
const HOST_PACKAGES: [&str; 5] =
    ["qemu-system-x86", "mmdebstrap", "e2fsprogs", "xz-utils", "busybox-static"];
/// What is in the guest.
const GUEST_PACKAGES: &str = "systemd,systemd-sysv,dbus,udev,kmod,iproute2,nftables,iptables,\
     conntrack,procps,util-linux,mount,e2fsprogs,xfsprogs,attr,apparmor,libseccomp2,openssl,ca-certificates,\
     busybox-static,docker-registry,skopeo,containernetworking-plugins,runc,crun,containerd";
/// Units that a guest of a few minutes has no use for, and that cost it seconds.
const MASKED: [&str; 11] = [
    "apparmor.service",
    "systemd-random-seed.service",
    "systemd-journal-flush.service",
    "systemd-update-utmp.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-firstboot.service",
    "systemd-pcrmachine.service",
    "systemd-timesyncd.service",
    "ldconfig.service",
    "sys-kernel-config.mount",
];
const FILES: [&str; 5] = [
    include_str!("../../guest/initrd-init"),
    include_str!("../../guest/initrd-hook"),
    include_str!("../../guest/kernel-hook"),
    include_str!("../../guest/run"),
    include_str!("../../guest/vmtest.service"),
];

/// A guest that can be run.
#[derive(Debug)]
pub struct Guest {
    directory: PathBuf,
}

impl Guest {
    /// The guest of the cache, made where it is not there. Its directory is named by what it is made of.
    pub fn ready() -> Result<Self, String> {
        if std::env::consts::ARCH != "x86_64" {
            return Err(format!(
                "the guest is one for x86_64, and this is {}",
                std::env::consts::ARCH
            ));
        }
        setup::install(&HOST_PACKAGES)
            .map_err(|why| format!("qemu and mmdebstrap cannot be installed: {why}"))?;
        if !succeeds(Command::new("qemu-system-x86_64").arg("--version")) {
            return Err("qemu-system-x86_64 does not run on this machine".to_owned());
        }
        let mut hasher = DefaultHasher::new();
        (SUITE, GUEST_PACKAGES, MASKED, FILES).hash(&mut hasher);
        let directory = cache().join(format!("guest-{:016x}", hasher.finish()));
        let guest = Self { directory };
        if !guest.root().is_file() {
            guest.build().map_err(|why| format!("the guest cannot be made: {why}"))?;
        }
        Ok(guest)
    }

    /// Its root file system.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root.ext4")
    }

    /// Its kernel.
    pub fn kernel(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// What its kernel begins with.
    pub fn initrd(&self) -> PathBuf {
        self.directory.join("initrd")
    }

    fn build(&self) -> Outcome {
        eprintln!("the guest is made in {}: this takes a minute, once", self.directory.display());
        let at = |e: std::io::Error| e.to_string();
        fs::create_dir_all(&self.directory).map_err(at)?;
        let work = Work::new(&self.directory)?;
        let root = work.0.join("root");
        for (name, text) in
            [("kernel-hook", FILES[2]), ("initrd-hook", FILES[1]), ("init", FILES[0])]
        {
            fs::write(work.0.join(name), text).map_err(at)?;
        }
        let sources = work.0.join("sources.list");
        fs::write(&sources, sources_list()?).map_err(at)?;
        let hook = format!("sh {} \"$1\"", work.0.join("kernel-hook").display());
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap
            .args(["--quiet", "--variant=minbase", "--aptopt=APT::Install-Recommends \"false\""])
            .arg("--dpkgopt=path-exclude=/usr/share/{doc,man,locale,info}/*")
            .arg(format!("--include={GUEST_PACKAGES}"))
            .arg(format!("--customize-hook={hook}"))
            .arg(SUITE)
            .arg(&root)
            .arg(&sources)
            .env("TMPDIR", &work.0);
        run(&mut bootstrap)?;
        settle(&root).map_err(at)?;
        fs::copy(root.join("boot/vmlinuz"), self.kernel()).map_err(at)?;
        let mut initrd = Command::new("sh");
        initrd.arg(work.0.join("initrd-hook")).arg(&root).arg(self.initrd());
        run(initrd.arg(work.0.join("init")))?;
        // Its name is what says that the guest is complete.
        let image = work.0.join("root.ext4");
        file_system(&root, &image, "16G")?;
        fs::rename(&image, self.root()).map_err(at)
    }
}

/// `$XDG_CACHE_HOME`, the home's, or below `target/`.
fn cache() -> PathBuf {
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    set.filter(|path| path.is_absolute()).or_else(home).unwrap_or_else(target).join("isopod-vm")
}

/// A directory for the making, gone at its end.
struct Work(PathBuf);

impl Work {
    fn new(beside: &Path) -> Result<Self, String> {
        let path = beside.join(format!("making-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The mirrors that this machine is set up with, for the guest's release.
fn sources_list() -> Result<String, String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"]);
    let listed = output(&mut targets)?;
    let of = |label: &str| {
        let line = listed.lines().find_map(|l| l.strip_prefix(&format!("Debian {label} ")));
        line.map(str::to_owned)
    };
    let main = of("Debian").unwrap_or_else(|| "http://deb.debian.org/debian".to_owned());
    let mut text = format!("deb {main} {SUITE} main\n");
    if let Some(security) = of("Debian-Security") {
        text.push_str(&format!("deb {security} {SUITE}-security main\n"));
    }
    Ok(text)
}

/// What makes a root file system of Debian packages this guest.
fn settle(root: &Path) -> std::io::Result<()> {
    let units = root.join("etc/systemd/system");
    fs::create_dir_all(&units)?;
    fs::write(root.join("etc/hostname"), "guest\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost guest\n::1 localhost\n")?;
    fs::write(root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n")?;
    fs::write(root.join("etc/fstab"), "")?;
    fs::create_dir_all(root.join("opt/vm"))?;
    fs::write(root.join("opt/vm/run"), FILES[3])?;
    fs::set_permissions(root.join("opt/vm/run"), fs::Permissions::from_mode(0o755))?;
    fs::write(units.join("vmtest.service"), FILES[4])?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    // What is in /etc is as new as what is in /usr, so that nothing is brought up to date at each boot.
    fs::write(root.join("etc/.updated"), "")?;
    fs::write(root.join("var/.updated"), "")
}

/// A file with an ext4 of `size` in it that has what is in `directory`.
pub fn file_system(directory: &Path, image: &Path, size: &str) -> Outcome {
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0"]);
    make.args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "-d"]);
    run(make.arg(directory).arg(image).arg(size))
}
