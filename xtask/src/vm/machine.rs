//! The machine that runs the guest.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::image::Guest;
use crate::run::Outcome;

const MEMORY_MIB: u32 = 3072;
/// Between two looks at whether it has ended.
const PAUSE: Duration = Duration::from_millis(100);
/// A guest that is up by then has begun to run what it was to run.
const BOOTS_WITHIN: Duration = Duration::from_secs(25);
/// Lines of the guest's console that are shown of one that did not end well.
const CONSOLE_LINES: usize = 30;

/// How a guest has ended.
#[derive(Debug)]
pub enum Ended {
    /// What it was to run has succeeded.
    Well,
    /// What it was to run has said that it failed, by this status.
    Failed(String),
    /// Its kernel has panicked while it booted, as one may that is emulated by several threads: nothing was run.
    Panicked,
    /// It said nothing; why.
    Unheard(String),
}

/// Boots `guest` with `disk`, which says what to run. What that prints goes to the terminal, or into the file `out`.
pub fn run(
    guest: &Guest,
    disk: &Path,
    append: &str,
    minutes: u64,
    out: Option<&Path>,
) -> Result<Ended, String> {
    let beside = disk.parent().unwrap_or(Path::new("."));
    let (console, status) = (beside.join("console"), beside.join("status"));
    let mut command = qemu(guest, disk, append);
    command.arg("-serial").arg(format!("file:{}", console.display()));
    let backend =
        out.map_or("stdio,signal=off".to_owned(), |out| format!("file,path={}", out.display()));
    port(&mut command, "vm.out", 1, &backend);
    port(&mut command, "vm.status", 2, &format!("file,path={}", status.display()));
    // Where the disks' changes go, which are nobody's afterwards.
    // Its input stays open: at its end qemu would take nothing more from the guest either.
    command.env("TMPDIR", beside).stdin(Stdio::piped());
    let machine = command.spawn().map_err(|e| format!("cannot run qemu-system-x86_64: {e}"))?;
    let began = Instant::now();
    let ended = within(Running(machine), Duration::from_secs(minutes * 60));
    let booting = began.elapsed() < BOOTS_WITHIN;
    let said = fs::read_to_string(&status).unwrap_or_default();
    Ok(match (ended, said.trim()) {
        (_, "0") => Ended::Well,
        (_, "") if booting && has_panicked(&console) => Ended::Panicked,
        (Ok(()), "") => Ended::Unheard(format!("it ended without a word\n{}", end_of(&console))),
        (Err(why), "") => Ended::Unheard(format!("{why}\n{}", end_of(&console))),
        (_, code) => Ended::Failed(code.to_owned()),
    })
}

fn qemu(guest: &Guest, disk: &Path, append: &str) -> Command {
    // systemd.unit: what the tests need and no more.
    let line = format!(
        "console=ttyS0 quiet panic=-1 mitigations=off psi=1 random.trust_cpu=on audit=0 \
         systemd.unified_cgroup_hierarchy=1 systemd.show_status=no systemd.unit=vmtest.service {append}"
    );
    let has_help = has_kvm();
    eprintln!("the guest runs {}", if has_help { "on KVM" } else { "by software emulation" });
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-name", "isopod-vm", "-machine", "q35", "-nodefaults", "-no-reboot"]);
    command.args(["-display", "none", "-smp", "2", "-m", &MEMORY_MIB.to_string()]);
    match has_help {
        true => command.args(["-accel", "kvm", "-cpu", "host"]),
        false => command.args(["-accel", "tcg,thread=multi,tb-size=512", "-cpu", "EPYC"]),
    };
    command.arg("-kernel").arg(guest.kernel()).arg("-initrd").arg(guest.initrd());
    command.args(["-append", &line]);
    for (id, image) in [("d0", guest.root().as_path()), ("d1", disk)] {
        let file = image.display();
        let drive = format!("file={file},if=none,id={id},format=raw,snapshot=on,cache=unsafe");
        command.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive={id}")]);
    }
    command.args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
    command.args(["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0,romfile="]);
    command
}

/// Adds a channel from the guest.
fn port(command: &mut Command, name: &str, number: u32, backend: &str) {
    let id = format!("c{number}");
    let (kind, rest) = backend.split_once(',').unwrap_or((backend, ""));
    command.args(["-chardev", &format!("{kind},id={id},{rest}")]);
    command.args(["-device", &format!("virtserialport,chardev={id},name={name},nr={number}")]);
}

/// Whether hardware helps: a processor that says so, and a machine that is told to stand still, and then to end.
/// A kernel that offers KVM without such a processor cannot run every instruction.
fn has_kvm() -> bool {
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !processor.split_whitespace().any(|flag| flag == "vmx" || flag == "svm") {
        return false;
    }
    let mut probe = Command::new("sh");
    let line = "echo quit | timeout 10 qemu-system-x86_64 -nodefaults -machine q35 -accel kvm \
                -cpu host -display none -S -monitor stdio";
    crate::run::succeeds(probe.args(["-c", line]))
}

/// A machine that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn within(mut machine: Running, time: Duration) -> Outcome {
    let deadline = Instant::now() + time;
    let (_open, never) = mpsc::channel::<()>();
    loop {
        match machine.0.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("qemu-system-x86_64 failed: {status}")),
            Err(e) => return Err(format!("qemu-system-x86_64 cannot be waited for: {e}")),
            Ok(None) if Instant::now() >= deadline => {
                return Err(format!("the guest did not end within {} s", time.as_secs()));
            }
            Ok(None) => drop(never.recv_timeout(PAUSE)),
        }
    }
}

fn has_panicked(console: &Path) -> bool {
    let text = fs::read(console).unwrap_or_default();
    String::from_utf8_lossy(&text).contains("Kernel panic")
}

fn end_of(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}
