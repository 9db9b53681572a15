//! A container from nothing to nothing, and one more process in one that runs: by our launcher, by runc and crun,
//! and by [`crate::floor`], which makes the same system calls and nothing else. Turn by turn in one run.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cgroups::{Cgroup, CgroupPath, Hierarchies};
use launcher::{
    CgroupView, ChildStdio, Create, Filter, PidHome, Plan, Report, RootSource, Seat, Tracers,
};
use runtime_spec::Spec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use seccomp::{Arch, CompiledFilter, Target};
use sys::{Namespaces, SingleThreaded};
use testkit::{Bundle, Runtime};

use crate::floor;
use crate::samples::{Samples, line};

const ROUNDS: usize = 60;
/// Rounds with a rest before each; runtimes that take long are measured less often.
const RESTED_ROUNDS: usize = 20;
const EXECS: usize = 100;
/// As on a node, which does not start containers back to back.
const REST: Duration = Duration::from_millis(150);

/// What every launch of a measurement needs.
pub(crate) struct Ground {
    pub(crate) proof: SingleThreaded,
    pub(crate) bundle: Bundle,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) filter: CompiledFilter,
    pub(crate) null: File,
    host_mounts: OwnedFd,
    spec: Spec,
    place: PathBuf,
}

pub fn measure() {
    let ground = Ground::new();
    for (rest, rounds, word) in
        [(None, ROUNDS, "back to back"), (Some(REST), RESTED_ROUNDS, "rested")]
    {
        containers(&ground, rest, rounds, word);
        execs(&ground, rest, if rest.is_some() { rounds } else { EXECS }, word);
    }
}

/// Prints what a container, and one more process in one, cost at the least here: two numbers, in milliseconds.
pub fn floor() {
    let ground = Ground::new();
    let mut whole = Samples::default();
    for _ in 0..ROUNDS {
        whole.add(took(|| floor::container(&ground)));
    }
    let cgroup = ground.cgroup();
    let container = ground.launch(&cgroup, &["sleep", "1000000"]);
    let mut more = Samples::default();
    for _ in 0..EXECS {
        more.add(took(|| floor::exec(&ground, &container)));
    }
    end(&cgroup, &container);
    println!("{:.3} {:.3}", ms(&whole), ms(&more));
}

fn ms(samples: &Samples) -> f64 {
    samples.median().as_secs_f64() * 1000.0
}

/// Ends a container that runs.
fn end(cgroup: &Cgroup, container: &OwnedFd) {
    cgroup.kill_all().expect("all can be killed");
    let _ = poll(&mut [PollFd::new(container, PollFlags::IN)], None);
    let _ = sys::wait_exit(container.as_fd());
    cgroup.remove().expect("the cgroup goes");
}

impl Ground {
    fn new() -> Self {
        let proof = SingleThreaded::check().expect("this program has one thread");
        let host_mounts = File::open("/proc/self/ns/mnt").expect("a mount namespace").into();
        sys::unshare(Namespaces::MOUNT).expect("a mount namespace can be made");
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).expect("mounts can be kept from the host");
        let mut bundle = Bundle::new();
        let arch = Arch::host().expect("seccomp is known here");
        let profile = seccomp::default_profile(&Target { arch, capabilities: &[], kernel: (6, 0) });
        bundle.config["linux"]["seccomp"] = serde_json::to_value(&profile).expect("a profile");
        let cgroup_namespace = serde_json::json!({ "type": "cgroup" });
        bundle.config["linux"]["namespaces"].as_array_mut().expect("a list").push(cgroup_namespace);
        let spec = serde_json::from_value(bundle.config.clone()).expect("a spec");
        let place = bundle.path().join("place");
        std::fs::create_dir(&place).expect("a directory");
        Self {
            proof,
            hierarchies: Hierarchies::detect().expect("there are cgroups"),
            filter: seccomp::compile(&profile, arch).expect("the profile compiles"),
            null: File::options().read(true).write(true).open("/dev/null").expect("/dev/null"),
            host_mounts,
            spec,
            place,
            bundle,
        }
    }

    /// A cgroup of its own with the spec's limits.
    pub(crate) fn cgroup(&self) -> Cgroup {
        let path = CgroupPath::parse(self.bundle.cgroup()).expect("a path");
        let cgroup = Cgroup::create(&self.hierarchies, &path).expect("a cgroup can be made");
        let resources = self.spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        cgroup.apply(resources.expect("there are limits")).expect("limits can be set");
        cgroup
    }

    fn streams(&self) -> ChildStdio<'_> {
        let null = self.null.as_fd();
        ChildStdio::Streams { stdin: null, stdout: null, stderr: null }
    }

    fn filter(&self) -> Filter<'_> {
        Filter { program: &self.filter.program, flags: self.filter.flags }
    }

    /// Creates and starts a container of ours; gives its process.
    fn launch(&self, cgroup: &Cgroup, args: &[&str]) -> OwnedFd {
        let mut plan = Plan::read(&self.spec).expect("a plan");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        plan.process = plan.process.with_command(&args, None).expect("a command");
        let launched = seated(cgroup, |seat| {
            let order = Create {
                plan: &plan,
                root: RootSource::Directory(&self.bundle.rootfs()),
                place: &self.place,
                stdio: self.streams(),
                filter: Some(self.filter()),
                host_mounts: self.host_mounts.as_fd(),
                seat,
                cgroup_view: &CgroupView::Unified,
                pid_home: PidHome::Planned,
                users: None,
                finds_program: false,
                own_tree: self.bundle.path(),
            };
            launcher::create(&self.proof, &order).expect("it is launched")
        });
        expect_report(&launched.control);
        launched.control.start().expect("it can be started");
        expect_report(&launched.control);
        launched.child.pidfd
    }
}

fn expect_report(control: &launcher::Control) {
    match control.report() {
        Report::Failed(error) => panic!("the launch failed: {error}"),
        Report::Ready { .. } | Report::AtHooks | Report::Executed => {}
    }
}

pub(crate) fn seated<T>(cgroup: &Cgroup, launch: impl FnOnce(Seat<'_>) -> T) -> T {
    let join = |pid: Pid| cgroup.join(pid).map_err(|e| std::io::Error::other(e.to_string()));
    match cgroup.entrance() {
        Ok(Some(way)) => launch(Seat::Entered(&way)),
        Ok(None) | Err(_) => launch(Seat::Moved(&join)),
    }
}

pub(crate) fn wait(process: &OwnedFd) {
    loop {
        if let Some(code) = sys::wait_exit(process.as_fd()).expect("a child can be waited for") {
            assert_eq!(code, 0, "the program has failed");
            return;
        }
        let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], None);
    }
}

fn rest(time: Option<Duration>) {
    if let Some(time) = time {
        let (_open, never) = std::sync::mpsc::channel::<()>();
        let _ = never.recv_timeout(time);
    }
}

fn containers(ground: &Ground, time: Option<Duration>, rounds: usize, word: &str) {
    let (mut own, mut floor, mut runc, mut crun) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    for _ in 0..rounds {
        rest(time);
        own.add(took(|| {
            let cgroup = ground.cgroup();
            wait(&ground.launch(&cgroup, &["true"]));
            cgroup.remove().expect("the cgroup goes");
        }));
        rest(time);
        floor.add(took(|| floor::container(ground)));
        for (samples, runtime) in [(&mut runc, Runtime::Runc), (&mut crun, Runtime::Crun)] {
            rest(time);
            samples.add(took(|| {
                let _ = ground.bundle.done(runtime, &["run", "bench"]);
            }));
        }
    }
    let what = |who: &str| format!("create+start+wait+delete, {word}: {who}");
    compare(&what("isopod's launcher"), &own, &floor, 1.5);
    floor.print(&what("floor"), None);
    faster(&what("crun"), &crun, &own, 4.0);
    faster(&what("runc"), &runc, &own, 10.0);
}

fn execs(ground: &Ground, time: Option<Duration>, rounds: usize, word: &str) {
    let cgroup = ground.cgroup();
    let container = ground.launch(&cgroup, &["sleep", "1000000"]);
    let plan = Plan::read(&ground.spec).expect("a plan").process;
    let plan = plan.with_command(&["true".to_owned()], None).expect("a command");
    let mut other = Bundle::new();
    other.config["linux"]["seccomp"] = ground.bundle.config["linux"]["seccomp"].clone();
    other.script("sleep 1000000");
    let null = || ground.null.try_clone().expect("a descriptor");
    let mut runs = other.command(Runtime::Runc, &["run", "--detach", "bench"]);
    assert!(runs.stdout(null()).stderr(null()).status().expect("it runs").success());
    let (mut own, mut floor, mut runc) =
        (Samples::default(), Samples::default(), Samples::default());
    let (mut own_cpu, mut runc_cpu) = (0, 0);
    for _ in 0..rounds {
        rest(time);
        let before = ticks();
        own.add(took(|| exec(ground, &cgroup, &container, &plan)));
        own_cpu += ticks() - before;
        rest(time);
        floor.add(took(|| floor::exec(ground, &container)));
        rest(time);
        let before = ticks();
        runc.add(took(|| {
            let _ = other.done(Runtime::Runc, &["exec", "bench", "true"]);
        }));
        runc_cpu += ticks() - before;
    }
    let what = |who: &str| format!("exec of true, {word}: {who}");
    compare(&what("isopod's launcher"), &own, &floor, 2.0);
    floor.print(&what("floor"), None);
    runc.print(&what("runc"), None);
    let verdict = if own_cpu * 10 <= runc_cpu { "kept" } else { "BROKEN" };
    let figure = format!("{own_cpu} and {runc_cpu} ticks of 10 ms for {rounds} each");
    line(
        &format!("CPU of execs, {word}: isopod and runc"),
        &figure,
        Some(format!("promised a tenth: {verdict}")),
    );
    drop(other);
    end(&cgroup, &container);
}

fn exec(ground: &Ground, cgroup: &Cgroup, container: &OwnedFd, plan: &launcher::ProcessPlan) {
    let launched = seated(cgroup, |seat| {
        let order = launcher::Exec {
            process: plan,
            container: container.as_fd(),
            stdio: ground.streams(),
            filter: Some(ground.filter()),
            seat,
            users: None,
            tracers: Tracers::Impossible,
            class: None,
        };
        launcher::exec(&ground.proof, &order).expect("it is launched")
    });
    expect_report(&launched.control);
    let heir = launched.hand_over.and_then(|note| note.heir()).expect("it has a heir");
    wait(&pidfd_open(heir, PidfdFlags::empty()).expect("the heir is a child"));
}

fn took(action: impl FnOnce()) -> Duration {
    let began = Instant::now();
    action();
    began.elapsed()
}

/// CPU time of this process and of its children that were waited for, in clock ticks (proc_pid_stat(5)).
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    fields.skip(11).take(4).map(|field| field.parse::<u64>().unwrap_or(0)).sum()
}

fn compare(what: &str, own: &Samples, floor: &Samples, most: f64) {
    own.print(what, None);
    let ratio = own.median().as_secs_f64() / floor.median().as_secs_f64();
    let verdict = if ratio <= most { "kept" } else { "BROKEN" };
    line(
        &format!("{what}, by its floor"),
        &format!("{ratio:.2} ×"),
        Some(format!("promised {most} ×: {verdict}")),
    );
}

fn faster(what: &str, other: &Samples, own: &Samples, least: f64) {
    other.print(what, None);
    let ratio = other.median().as_secs_f64() / own.median().as_secs_f64();
    let verdict = if ratio >= least { "kept" } else { "BROKEN" };
    line(
        &format!("{what}, by isopod's"),
        &format!("{ratio:.2} ×"),
        Some(format!("promised {least} ×: {verdict}")),
    );
}
