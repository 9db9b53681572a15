//! The end of a process and all that came of it, where it has no cgroup of its own.
//!
//! Always: a process is signalled by a descriptor that was opened before it was found to belong to the tree; the
//! tree stands still while it is looked at, so that nothing of it is missed that has not left its parents.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How often is looked for children that were born just before their parent was stopped.
const ROUNDS: usize = 8;

/// Who is whose child, and in which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Relations {
    pid: Pid,
    parent: i32,
    session: i32,
}

/// Kills the process `root` that `pidfd` means, its descendants, and the session that it leads.
pub fn kill_tree(root: Pid, pidfd: &OwnedFd) {
    let mut tree: Vec<(Pid, OwnedFd)> = Vec::new();
    // Those that have ended already are as good.
    let send = |pidfd: &OwnedFd, signal| {
        let _ = pidfd_send_signal(pidfd.as_fd(), signal);
    };
    send(pidfd, Signal::STOP);
    for _ in 0..ROUNDS {
        let new = descendants(root, &tree);
        if new.is_empty() {
            break;
        }
        for (_, pidfd) in &new {
            send(pidfd, Signal::STOP);
        }
        tree.extend(new);
    }
    // Children first: a parent that ends early would tell of an end that is not whole.
    for (_, pidfd) in tree.iter().rev() {
        send(pidfd, Signal::KILL);
    }
    send(pidfd, Signal::KILL);
}

/// Those that belong to the tree and are not known yet.
fn descendants(root: Pid, known: &[(Pid, OwnedFd)]) -> Vec<(Pid, OwnedFd)> {
    let all = relations();
    let mut found: Vec<Pid> = known.iter().map(|(pid, _)| *pid).chain([root]).collect();
    let before = found.len();
    // Parents may stand after their children.
    loop {
        let more: Vec<Pid> = all
            .iter()
            .filter(|one| !found.contains(&one.pid) && belongs(one, root, &found))
            .map(|one| one.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    let opened = found[before..].iter().filter_map(|pid| {
        let pidfd = pidfd_open(*pid, PidfdFlags::empty()).ok()?;
        // The number has not changed hands if it still stands where it stood.
        let now = read(*pid)?;
        all.contains(&now).then_some((*pid, pidfd))
    });
    opened.collect()
}

fn belongs(one: &Relations, root: Pid, found: &[Pid]) -> bool {
    let number = |pid: &Pid| pid.as_raw_nonzero().get();
    found.iter().any(|pid| number(pid) == one.parent) || one.session == number(&root)
}

fn relations() -> Vec<Relations> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter_map(read).collect()
}

fn read(pid: Pid) -> Option<Relations> {
    let text = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (parent, session) = parse(&text)?;
    Some(Relations { pid, parent, session })
}

/// Parent and session of proc_pid_stat(5). The name before them may have anything in it.
fn parse(stat: &[u8]) -> Option<(i32, i32)> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some((parent, session))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_may_have_anything_in_it() {
        assert_eq!(parse(b"7 (a) 1 2) S 3 4 5 6 7"), Some((3, 5)));
        assert_eq!(parse(b"7 nothing"), None);
    }

    #[test]
    fn children_and_their_children_end_with_it() {
        let script = "sh -c 'sleep 1000 & echo $!; wait' & echo $!; wait";
        let mut command = Command::new("/bin/sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let pids: Vec<Pid> = (0..2)
            .map(|_| Pid::from_raw(lines.next().unwrap().unwrap().parse().unwrap()).unwrap())
            .collect();
        let fds: Vec<OwnedFd> =
            pids.iter().map(|pid| pidfd_open(*pid, PidfdFlags::empty()).unwrap()).collect();
        let pid = Pid::from_child(&child);
        kill_tree(pid, &pidfd_open(pid, PidfdFlags::empty()).unwrap());
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        for fd in &fds {
            let mut ended = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
            let patience = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(&mut ended, Some(&patience)).unwrap(), 1);
        }
    }
}
