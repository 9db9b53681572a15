//! Processes: who they are and how they end.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, set_parent_process_death_signal,
};

/// How a child ended, as a shell would say it: its exit code, or 128 + the signal that ended it.
///
/// `None` while it runs.
///
/// # Errors
/// ECHILD if it is not (or no longer) a child of this process.
pub fn wait_exit(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let Some(status) = rustix::process::waitid(WaitId::PidFd(pidfd), options)? else {
        return Ok(None);
    };
    let signal = status.terminating_signal().map(|signal| 128 + signal);
    Ok(signal.or_else(|| status.exit_status()))
}

/// The process id of some child that has ended and was not waited for, `None` if there is none now.
///
/// # Errors
/// ECHILD if there are no children at all.
pub fn wait_any_exited() -> io::Result<Option<Pid>> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is valid for the write; with all zeroes it is initialised whatever happens.
    let (result, info) = unsafe {
        let result = libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options);
        (result, info.assume_init())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after waitid the fields of SIGCHLD are the valid ones; all zero if nobody has ended.
    Ok(Pid::from_raw(unsafe { info.si_pid() }))
}

/// Sends a signal by its number, a real-time one too (pidfd_send_signal(2)).
///
/// # Errors
/// ESRCH when the process has ended and was waited for.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open for the call; without siginfo the kernel fills it in as for kill(2).
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the program that `command` starts killed when the thread that starts it ends (PR_SET_PDEATHSIG of prctl(2)).
pub fn end_with_parent(command: &mut Command) {
    let parent = getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // If the parent has ended before, nobody will say so any more.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(ask) };
}

/// When the process started, in clock ticks since boot (field 22 of /proc/PID/stat): with the pid
/// it names one process for the whole uptime.
///
/// # Errors
/// NotFound when there is no such process.
pub fn start_time(pid: Pid) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    // The name in parentheses may contain anything, so count from the last one.
    let fields = stat.rfind(')').map(|end| &stat[end + 1..]);
    let ticks = fields
        .and_then(|rest| rest.split_ascii_whitespace().nth(19))
        .and_then(|text| text.parse().ok());
    ticks.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "no start time in /proc/PID/stat")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_start_time_that_stays() {
        let me = getpid();
        assert!(start_time(me).unwrap() > 0);
        assert_eq!(start_time(me).unwrap(), start_time(me).unwrap());
    }

    #[test]
    fn a_program_ends_with_the_thread_that_has_started_it() {
        let started = std::thread::spawn(|| {
            let mut command = Command::new("/bin/sleep");
            end_with_parent(&mut command);
            command.arg("1000").spawn().unwrap()
        });
        let mut child = started.join().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }

    #[test]
    fn an_ended_child_tells_its_code_or_128_plus_its_signal() {
        for (script, code) in [("exit 7", 7), ("kill -9 $$", 137)] {
            #[expect(
                clippy::zombie_processes,
                reason = "wait_exit waits for it, which is what is tested"
            )]
            let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
            let pid = Pid::from_child(&child);
            let pidfd =
                rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
            let mut poll = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut poll, None).unwrap();
            assert_eq!(wait_exit(std::os::fd::AsFd::as_fd(&pidfd)).unwrap(), Some(code));
        }
    }
}
