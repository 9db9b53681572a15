//! Tests in a guest that this machine is not: systemd as process 1, cgroup v2 alone, AppArmor on.
//!
//! Owns: the guest's image in the cache, the machine that runs it, and which tests run there.
//! Always: what the guest changes is thrown away with it; whatever the host lacks is said by name; a guest
//! that does not end is ended. Callers: people.

mod image;
mod machine;
mod select;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Outcome, cargo, run, target, top};
use crate::test::FEATURES;

use machine::Ended;
use select::Choice;

/// The longest that a guest may take.
const MINUTES: u64 = 120;
/// The same where it is one step of many, and after how many seconds of its life no test is begun then: on a
/// machine that does much else, some are left for another time, and that is said.
const LENIENT_MINUTES: u64 = 5;
const LENIENT_SECONDS: u64 = 200;
/// How often a guest is booted whose kernel panics at that.
const BOOTS: usize = 3;
/// The longest that one test may take in a guest without hardware's help.
const TEST_SECONDS: u32 = 300;
/// The same where all tests run: those of faults begin a daemon for each of a hundred points.
const ALL_TEST_SECONDS: u32 = 1800;

/// What `cargo xtask vm` was asked for.
#[derive(Debug, Default)]
struct Order {
    choice: Choice,
    /// Builds the guest's tests alone, and not the workspace.
    narrow: bool,
    list: bool,
    /// Makes the guest, and runs nothing.
    prepare: bool,
    /// Where the guest cannot be had, that is said and is no failure.
    lenient: bool,
    /// More for the guest's kernel command line.
    append: String,
    /// A command for the guest's shell instead of tests.
    shell: Option<String>,
    /// Where what it prints goes, if not to the terminal.
    out: Option<PathBuf>,
}

/// The test that runs the conformance suite.
const SUITE: &str = "conformance::every_rule_of_the_suite_is_held";

/// Runs the conformance suite in the guest and writes its report to `report`.
pub fn conformance(report: &Path) -> Outcome {
    let programs = programs(false)?;
    let tests = select::choose(&programs, &Choice::Named(vec![SUITE.to_owned()]))?;
    let [test] = tests.as_slice() else {
        return Err(format!("{} tests are called {SUITE}", tests.len()));
    };
    let command = format!("/guest/programs/{} --exact {SUITE} --nocapture 2>&1", test.file_name());
    let out = target().join("vm-report.txt");
    let order = Order { shell: Some(command), out: Some(out.clone()), ..Order::default() };
    let ended = in_guest(&image::Guest::ready()?, &order, &tests);
    let text = std::fs::read_to_string(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    ended.map_err(|why| format!("{why}\n{text}"))?;
    // Between what the test's own program says.
    let lines = text.lines().skip_while(|line| !line.starts_with("running 1 test")).skip(1);
    let own: Vec<&str> = lines.take_while(|line| !line.starts_with("test result")).collect();
    let is_words = |line: &&str| !line.starts_with("test ");
    let mut text = own.into_iter().filter(is_words).collect::<Vec<_>>().join("\n");
    text = text.trim().to_owned() + "\n";
    std::fs::write(report, text).map_err(|e| format!("{}: {e}", report.display()))
}

/// Runs tests in the guest; see `cargo xtask help`.
pub fn vm(args: &[String]) -> Outcome {
    if let [flag] = args
        && flag == "--conformance"
    {
        return conformance(&top().join("docs/conformance/isopod-guest.txt"));
    }
    let order = read(args)?;
    if order.prepare {
        return image::Guest::ready().map(drop);
    }
    let lines = select::choose(&programs(order.narrow)?, &order.choice)?;
    if order.list {
        lines.iter().for_each(|test| println!("{}::{}", test.program_name(), test.name));
        return Ok(());
    }
    if lines.is_empty() && order.shell.is_none() {
        return Err("no test has such a name".to_owned());
    }
    match image::Guest::ready() {
        Ok(guest) => in_guest(&guest, &order, &lines),
        Err(why) if order.lenient => {
            eprintln!("NOT RUN: tests in a guest with systemd and cgroup v2, because {why}");
            Ok(())
        }
        Err(why) => Err(why),
    }
}

fn read(args: &[String]) -> Result<Order, String> {
    let append = std::env::var("VM_APPEND").unwrap_or_default();
    let mut order = Order { append, ..Order::default() };
    let mut filters = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--all" => order.choice = Choice::All,
            "--narrow" => order.narrow = true,
            "--list" => order.list = true,
            "--prepare" => order.prepare = true,
            "--lenient" => order.lenient = true,
            "--selinux" => order.append.push_str(" security=selinux selinux=1"),
            "--shell" => order.shell = Some(args.next().ok_or("--shell needs a command")?.clone()),
            flag if flag.starts_with('-') => return Err(format!("no flag {flag:?}")),
            filter => filters.push(filter.to_owned()),
        }
    }
    if !filters.is_empty() {
        order.choice = Choice::Named(filters);
    }
    Ok(order)
}

fn in_guest(guest: &image::Guest, order: &Order, tests: &[select::Test]) -> Outcome {
    let disk = Disk::new()?;
    let programs = disk.directory.join("programs");
    std::fs::create_dir_all(&programs).map_err(|e| format!("{}: {e}", programs.display()))?;
    let mut copied: Vec<&Path> = tests.iter().map(|test| test.program.as_path()).collect();
    copied.sort_unstable();
    copied.dedup();
    let own = ["isopod", "isopod-monitor"].map(|name| target().join("debug").join(name));
    copied.extend(own.iter().map(PathBuf::as_path));
    for program in copied {
        // A guest without hardware's help reads gigabytes of line numbers slowly.
        let to = programs.join(select::file_name(program));
        run(Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(program))?;
    }
    let mut list = String::new();
    for test in tests {
        list.push_str(&format!("{} {}\n", test.file_name(), test.name));
    }
    let command = order.shell.as_deref().unwrap_or("exec bash /guest/tests");
    disk.write("list", &list)?;
    let limit = match order.choice {
        Choice::All | Choice::Named(_) => ALL_TEST_SECONDS,
        Choice::Subset => TEST_SECONDS,
    };
    disk.write("limit", &limit.to_string())?;
    disk.write("tests", include_str!("../../guest/tests"))?;
    disk.write("command", &format!("export ISOPOD_TEST_PATIENCE=10\n{command}\n"))?;
    let (minutes, seconds) =
        if order.lenient { (LENIENT_MINUTES, LENIENT_SECONDS) } else { (MINUTES, MINUTES * 60) };
    disk.write("budget", &seconds.to_string())?;
    let out = order.out.as_deref();
    let image = disk.image()?;
    let mut ended = machine::run(guest, &image, &order.append, minutes, out)?;
    for _ in 1..BOOTS {
        if !matches!(ended, Ended::Panicked) {
            break;
        }
        eprintln!("the guest's kernel has panicked while it booted; once more");
        ended = machine::run(guest, &image, &order.append, minutes, out)?;
    }
    if matches!(ended, Ended::Panicked) {
        ended = Ended::Unheard(format!("its kernel has panicked at each of {BOOTS} boots"));
    }
    match ended {
        Ended::Well => Ok(()),
        Ended::Failed(code) => Err(format!("failed in the guest (status {code})")),
        Ended::Unheard(why) if order.lenient => {
            eprintln!("NOT RUN: tests in a guest with systemd and cgroup v2, because {why}");
            Ok(())
        }
        Ended::Unheard(why) => Err(why),
        // It was made one of those above.
        Ended::Panicked => Err("its kernel has panicked".to_owned()),
    }
}

/// What a guest needs of the workspace.
const PACKAGES: [&str; 6] =
    ["isopod", "isopod-monitor", "integration", "cgroups", "launcher", "oci-cli"];

/// The test programs that a guest can run, built, with the daemon and the monitor beside them.
fn programs(narrow: bool) -> Result<Vec<PathBuf>, String> {
    let mut tests = cargo(["test", "--no-run"]);
    if narrow {
        // The same packages in both, or cargo would build what they need twice.
        let mut own = cargo(["build"]);
        for name in PACKAGES {
            own.args(["--package", name]);
            tests.args(["--package", name]);
        }
        run(own.args(FEATURES))?;
    } else {
        crate::test::build()?;
        tests.arg("--workspace");
    }
    let done = tests.args(FEATURES).output().map_err(|e| format!("cannot run cargo: {e}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(format!("the tests cannot be built:\n{said}"));
    }
    Ok(select::executables(&said))
}

/// What the guest is given: a directory that becomes its second disk.
struct Disk {
    top: PathBuf,
    directory: PathBuf,
}

impl Disk {
    fn new() -> Result<Self, String> {
        let top = target().join(format!("vm-{}", std::process::id()));
        let directory = top.join("disk");
        std::fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", top.display()))?;
        Ok(Self { top, directory })
    }

    fn write(&self, name: &str, text: &str) -> Outcome {
        std::fs::write(self.directory.join(name), text).map_err(|e| format!("{name}: {e}"))
    }

    fn image(&self) -> Result<PathBuf, String> {
        let image = self.top.join("disk.ext4");
        image::file_system(&self.directory, &image, "4G")?;
        Ok(image)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.top);
    }
}
