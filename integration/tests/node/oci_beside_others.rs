//! Generated specs, run by our launcher, runc and crun: what a program sees from inside must be the same.
//!
//! Where runtimes differ and each is within the runtime specification, the difference is taken out in
//! [`comparable`], with the reason beside it; docs/guide/oci.md lists them for people.

use std::collections::BTreeMap;
use std::fs;

use rustix::fs::StatVfsMountFlags;
use serde_json::json;
use testkit::{Bundle, Runtime};

/// Specs that each run of the tests tries; each is made from its number alone.
const SPECS: u64 = 4;

/// What a program finds out, in sections.
const PROBE: &str = r#"
echo "== status"; grep -E '^(Uid|Gid|Groups|Cap[A-Z][a-z]+|NoNewPrivs|Seccomp):' /proc/self/status
echo "== umask"; umask
echo "== limits"; cat /proc/self/limits
echo "== mounts"; cat /proc/self/mountinfo
echo "== dev"; for f in /dev/*; do stat -c '%n %F %a %u %g %t:%T' $f; done
echo "== links"; for f in fd stdin stdout stderr core ptmx; do echo $f $(readlink /dev/$f); done
echo "== env"; env
echo "== fd"; ls /proc/self/fd
echo "== ns"; for n in cgroup ipc mnt net pid user uts; do echo $n $(readlink /proc/self/ns/$n); done
echo "== cgroup"; cat /proc/self/cgroup
echo "== place"; pwd; hostname; echo $$; cat /proc/self/oom_score_adj; cat /proc/sys/kernel/shm_rmid_forced
echo "== paths"
for f in /proc/kcore /proc/keys /proc/timer_list /proc/sys/kernel/hostname /sys/firmware/* /ro/file; do
  head -c 1 $f >/dev/null 2>&1; echo read $f $?
done
for f in /proc/sys/kernel/shm_rmid_forced /ro/new /file /tmp/file /dev/shm/file; do
  (echo 0 > $f) 2>/dev/null; echo write $f $?
done
echo "== calls"
mkdir /tmp/made 2>&1; echo $?
chmod 700 /tmp/made 2>&1; echo $?
mknod /tmp/node c 1 3 2>&1; echo $?
head -c 1 /tmp/node 2>&1; echo $?
mount -t tmpfs none /home 2>&1; echo $?
hostname other 2>&1; echo $?
chown 1 /tmp/made 2>&1; echo $?
ln -s x /tmp/link 2>&1; echo $?
kill -0 1 2>&1; echo $?
"#;

/// A generator of numbers (xorshift64*): the same specs each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }

    fn some<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        of.iter().copied().filter(|_| self.one_in(2)).collect()
    }
}

const CAPABILITIES: [&str; 9] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_NET_BIND_SERVICE",
    "CAP_MKNOD",
    "CAP_SYS_ADMIN",
];

fn vary(bundle: &mut Bundle, numbers: &mut Numbers) {
    let root = bundle.path().to_owned();
    fs::create_dir_all(root.join("volume")).unwrap();
    fs::write(root.join("volume/file"), "x").unwrap();
    let config = &mut bundle.config;
    let process = &mut config["process"];
    let caps = numbers.some(&CAPABILITIES);
    process["capabilities"] = json!({ "bounding": caps, "effective": caps, "permitted": caps });
    process["noNewPrivileges"] = json!(numbers.one_in(2));
    process["env"] = json!(["PATH=/bin", "HOME=/", "A=b c", "EMPTY="]);
    if numbers.one_in(2) {
        let groups = if numbers.one_in(2) { json!([5, 2000]) } else { json!([]) };
        process["user"] = json!({ "uid": 1000, "gid": 1001, "additionalGids": groups });
    }
    if numbers.one_in(2) {
        process["user"]["umask"] = json!(0o027);
    }
    if numbers.one_in(2) {
        process["cwd"] = json!("/tmp");
    }
    if numbers.one_in(2) {
        process["oomScoreAdj"] = json!(500);
    }
    if numbers.one_in(2) {
        process["rlimits"] = json!([
            { "type": "RLIMIT_NOFILE", "soft": 512, "hard": 1024 },
            { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }
        ]);
    }
    config["root"]["readonly"] = json!(numbers.one_in(2));
    let mounts = config["mounts"].as_array_mut().unwrap();
    let flags = numbers.some(&["nosuid", "nodev", "noexec", "noatime"]);
    let volume = root.join("volume");
    let mut options = vec!["bind", "ro"];
    options.extend(&flags);
    mounts.push(
        json!({ "destination": "/ro", "type": "bind", "source": volume, "options": options }),
    );
    if numbers.one_in(2) {
        let mut options = vec!["size=1m", "mode=1777"];
        options.extend(numbers.some(&["nosuid", "nodev", "noexec"]));
        mounts.push(json!(
            { "destination": "/home", "type": "tmpfs", "source": "tmpfs", "options": options }
        ));
    }
    let linux = &mut config["linux"];
    if numbers.one_in(2) {
        linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "cgroup" }));
    }
    if numbers.one_in(2) {
        linux["resources"]["pids"] = json!({ "limit": 64 });
    }
    if numbers.one_in(2) {
        linux["sysctl"] = json!({ "kernel.shm_rmid_forced": "1" });
    }
    if numbers.one_in(2) {
        linux["maskedPaths"] = json!([]);
        linux["readonlyPaths"] = json!([]);
    }
    if numbers.one_in(2) {
        linux["devices"] = json!([
            { "path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8 }
        ]);
    }
    if numbers.one_in(2) {
        let denied = numbers.some(&[
            "mkdir",
            "mkdirat",
            "mknod",
            "mknodat",
            "symlink",
            "symlinkat",
            "chmod",
        ]);
        linux["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                { "names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
                { "names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 13 }
            ]
        });
        if denied.is_empty() {
            linux["seccomp"]["syscalls"].as_array_mut().unwrap().pop();
        }
    }
}

/// The sections of what a probe has said, without what may be different.
fn plain(said: &str) -> BTreeMap<String, Vec<String>> {
    let mut sections = BTreeMap::<String, Vec<String>>::new();
    let mut name = String::new();
    for line in said.lines() {
        match line.strip_prefix("== ") {
            Some(next) => name = next.to_owned(),
            None => sections.entry(name.clone()).or_default().push(line.to_owned()),
        }
    }
    for (name, lines) in &mut sections {
        match name.as_str() {
            "mounts" => {
                *lines = lines.iter().map(|line| mount(line)).collect();
                lines.sort();
            }
            "ns" => *lines = lines.iter().map(|line| namespace(line)).collect(),
            "env" => {
                // The shell's own.
                lines.retain(|line| {
                    !line.starts_with("PWD=")
                        && !line.starts_with("SHLVL=")
                        && !line.starts_with("OLDPWD=")
                });
                lines.sort();
            }
            "dev" => lines.sort(),
            _ => {}
        }
    }
    sections
}

/// Place, flags, type and options of a line of mountinfo; numbers and peers are each run's own.
fn mount(line: &str) -> String {
    let (before, after) = line.split_once(" - ").unwrap();
    let fields: Vec<&str> = before.split(' ').collect();
    let after: Vec<&str> = after.split(' ').collect();
    let sorted = |options: &str| {
        let mut options: Vec<&str> = options.split(',').collect();
        options.sort_unstable();
        options.join(",")
    };
    // What is masked is covered by any empty thing: which one, each runtime chooses.
    let masked = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"];
    if masked.contains(&fields[4]) {
        return format!("{} masked", fields[4]);
    }
    format!(
        "{} {} {} {}",
        fields[4],
        sorted(fields[5]),
        after[0],
        sorted(after.get(2).unwrap_or(&""))
    )
}

/// Whether a namespace is this test's or another.
fn namespace(line: &str) -> String {
    let (kind, link) = line.split_once(' ').unwrap();
    let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    format!("{kind} {}", if own.to_string_lossy() == link { "this" } else { "another" })
}

fn probe(bundle: &Bundle, runtime: Runtime) -> BTreeMap<String, Vec<String>> {
    // Each finds the bundle as the first did.
    for name in ["made", "node", "link", "file"] {
        let path = bundle.rootfs().join("tmp").join(name);
        let _ = fs::remove_dir(&path);
        let _ = fs::remove_file(&path);
    }
    let _ = fs::remove_file(bundle.rootfs().join("file"));
    let done = bundle.output(runtime, &["run", "probe"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{}: {}: {errors}\n{said}", runtime.name(), done.status);
    plain(&said)
}

/// Flags that mounts of the file system with the bundle have of themselves, as mountinfo writes them.
///
/// What is bound from there keeps them with ours, so that no container opens a device that the host's mount keeps
/// shut; the others drop those that the spec does not name.
fn inherited(bundle: &Bundle) -> Vec<&'static str> {
    let flags = rustix::fs::statvfs(bundle.path()).unwrap().f_flag;
    let of = [
        (StatVfsMountFlags::NOSUID, "nosuid,"),
        (StatVfsMountFlags::NODEV, "nodev,"),
        (StatVfsMountFlags::NOEXEC, "noexec,"),
    ];
    of.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, name)| name).collect()
}

/// Lines of a section without what is known to be different, and why.
fn comparable(section: &str, lines: &[String], other: Runtime, inherited: &[&str]) -> Vec<String> {
    let is_crun = other == Runtime::Crun;
    let kept = lines.iter().filter(|line| match section {
        // The others add a link to the kernel's memory, which is masked; runc only where the kernel has the file.
        "dev" => !line.starts_with("/dev/core "),
        "links" => !line.starts_with("core"),
        // crun is shown no second hierarchy here, and so puts nothing into it.
        "cgroup" => !(is_crun && line.starts_with("0::")),
        _ => true,
    });
    let shown = kept.map(|line| match section {
        // runc makes the file system itself read-only, and not its mount alone.
        "mounts" if line.starts_with("/sys ") => {
            line.replace(" sysfs ro", " sysfs").replace(" sysfs rw", " sysfs")
        }
        "mounts" if line.starts_with("/ ") || line.starts_with("/ro ") => {
            inherited.iter().fold(line.clone(), |line, flag| line.replacen(flag, "", 1))
        }
        // crun's read-only paths lose the flags of the file system that they are in; ours and runc's do not.
        "mounts" if is_crun && line.contains(" proc ") => line.replace("nodev,noexec,nosuid,", ""),
        // crun gives whatever the streams are to the user, /dev/null as well.
        "dev" if is_crun && line.starts_with("/dev/null ") => "/dev/null".to_owned(),
        _ => line.clone(),
    });
    shown.collect()
}

/// What is different between two runs of a probe, a line for people each.
fn differences(
    own: &BTreeMap<String, Vec<String>>,
    theirs: &BTreeMap<String, Vec<String>>,
    other: Runtime,
    inherited: &[&str],
) -> Vec<String> {
    let mut found = Vec::new();
    for (section, lines) in own {
        let mine = comparable(section, lines, other, inherited);
        let empty = Vec::new();
        let others = theirs.get(section).unwrap_or(&empty);
        let others = comparable(section, others, other, inherited);
        if mine != others {
            let only = |a: &[String], b: &[String]| {
                a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>()
            };
            let (ours, theirs) = (only(&mine, &others), only(&others, &mine));
            found.push(format!("{section}: isopod {ours:?}, {} {theirs:?}", other.name()));
        }
    }
    found
}

#[test]
fn a_program_sees_the_same_whoever_launched_it() {
    let mut different = Vec::new();
    for number in 1..=SPECS {
        let mut bundle = Bundle::new();
        vary(&mut bundle, &mut Numbers(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        bundle.script(PROBE);
        let own = probe(&bundle, Runtime::Own);
        for other in [Runtime::Runc, Runtime::Crun] {
            let found = differences(&own, &probe(&bundle, other), other, &inherited(&bundle));
            different.extend(found.into_iter().map(|line| format!("spec {number}, {line}")));
        }
    }
    assert!(different.is_empty(), "{} differences:\n{}", different.len(), different.join("\n"));
}
