//! Programs on the real kernel: it takes them, and answers what their profiles mean.
//!
//! A filter holds for the thread that installs it, so each test gives one to a thread of its own.

use std::fs::File;

use runtime_spec::{Seccomp, SeccompArg, SeccompSyscall};
use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, seek};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use seccomp::{Arch, Target, compile, default_profile};

/// What `action` finds behind the filter of `profile`.
fn behind<T: Send>(profile: &Seccomp, action: impl FnOnce() -> T + Send) -> T {
    let host = Arch::host().expect("there are tables for this machine");
    let filter = compile(profile, host).expect("the profile is good");
    let confined = || {
        rustix::thread::set_no_new_privs(true).expect("anybody may give up privileges");
        sys::install_filter(&filter.program, filter.flags).expect("the kernel takes the program");
        action()
    };
    std::thread::scope(|scope| scope.spawn(confined).join().expect("the action does not panic"))
}

fn refuse(name: &str, errno: u32, args: Vec<SeccompArg>) -> Seccomp {
    Seccomp {
        default_action: "SCMP_ACT_ALLOW".to_owned(),
        syscalls: vec![SeccompSyscall {
            names: vec![name.to_owned()],
            action: "SCMP_ACT_ERRNO".to_owned(),
            errno_ret: Some(errno),
            args,
        }],
        ..Seccomp::default()
    }
}

fn arg(index: u32, op: &str, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg { index, value, value_two, op: op.to_owned() }
}

#[test]
fn the_default_profile_lets_a_program_work_and_keeps_it_from_the_machine() {
    for capabilities in [vec![], vec!["CAP_SYS_ADMIN".to_owned(), "CAP_SYS_CHROOT".to_owned()]] {
        let target =
            Target { arch: Arch::host().unwrap(), capabilities: &capabilities, kernel: (6, 1) };
        let profile = default_profile(&target);
        let is_admin = !capabilities.is_empty();
        behind(&profile, || {
            assert!(std::fs::read("/proc/self/stat").is_ok());
            assert!(socket(AddressFamily::INET, SocketType::STREAM, None).is_ok());
            let vsock = AddressFamily::from_raw(40);
            assert_eq!(socket(vsock, SocketType::STREAM, None).unwrap_err(), Errno::PERM);
            // A new thread is made by clone3, or by clone where that is said to be absent.
            let sum = std::thread::spawn(|| 1 + 1).join().unwrap();
            assert_eq!(sum, 2);
            let child = std::process::Command::new("/bin/true").status().unwrap();
            assert!(child.success());
            let opened = rustix::mount::fsopen("no-such-fs", rustix::mount::FsOpenFlags::empty());
            // Behind the filter the kernel looks for the file system, or for the right to.
            let refused = opened.unwrap_err();
            if is_admin {
                assert!(matches!(refused, Errno::NODEV | Errno::PERM), "{refused:?}");
            } else {
                assert_eq!(refused, Errno::PERM);
            }
        });
    }
}

#[test]
fn both_halves_of_an_argument_count() {
    let limit = 0x1_0000_0005;
    let above = refuse("lseek", 99, vec![arg(1, "SCMP_CMP_GT", limit, 0)]);
    behind(&above, || {
        let file = File::open("/proc/self/exe").unwrap();
        for (offset, refused) in [
            (0, false),
            (0xffff_ffff, false),
            (limit, false),
            (limit + 1, true),
            (0x2_0000_0000, true),
        ] {
            let result = seek(&file, SeekFrom::Start(offset));
            assert_eq!(result == Err(Errno::from_raw_os_error(99)), refused, "{offset:#x}");
        }
    });
}

#[test]
fn a_mask_is_compared_in_its_bits_only() {
    let directory = u64::from(OFlags::DIRECTORY.bits());
    let no_directories =
        refuse("openat", 98, vec![arg(2, "SCMP_CMP_MASKED_EQ", directory, directory)]);
    behind(&no_directories, || {
        let open = |flags| openat(CWD, "/", flags | OFlags::CLOEXEC, Mode::empty());
        assert_eq!(open(OFlags::DIRECTORY).unwrap_err(), Errno::from_raw_os_error(98));
        assert!(open(OFlags::RDONLY).is_ok());
        assert!(open(OFlags::PATH).is_ok());
    });
}
