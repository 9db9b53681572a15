//! `exec`: one more process in a container that runs.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use launcher::{ChildStdio, Filter, ProcessPlan, Report, Tracers, Users};
use runtime_spec::{Process, User};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sys::{Child, HandOver, SingleThreaded};

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::{Record, Status};
use crate::{cgroup, config, launch, namespaces};

pub(super) fn exec(proof: &SingleThreaded, line: &Invocation) -> Result<u8, OciError> {
    let (directory, record) = super::find(line)?;
    let status = record.status(&directory);
    let (container, status) = match status {
        // It may have ended since.
        Status::Running => (record.process(), Status::Stopped),
        Status::Creating | Status::Created | Status::Paused | Status::Stopped => (None, status),
    };
    let container = container.ok_or_else(|| OciError::WrongState {
        what: format!("run a command in the container {}", record.id),
        problem: format!("container not running: it is {}", status.as_str()),
    })?;
    refuse_what_a_document_says(line)?;
    let plan = ProcessPlan::read(&process(line, &record)?)?;
    config::refuse_apparmor(&plan)?;
    let console = line
        .value("console-socket")
        .map(|path| UnixStream::connect(path).map_err(OciError::io(format!("connect to {path}"))));
    let console = console.transpose()?;
    if plan.terminal.is_some() && console.is_none() {
        return Err(OciError::Usage("a terminal needs --console-socket".to_owned()));
    }
    let filter = directory.filter()?;
    let users = record.users.as_ref().map(|ids| {
        // It is the process's as long as that lives, which its descriptor says.
        File::open(format!("/proc/{}/ns/user", record.pid)).map(|file| (OwnedFd::from(file), ids))
    });
    let users = users.transpose().map_err(OciError::io("open the container's user namespace"))?;
    namespaces::join_time(record.pid)?;
    // Its number is its own as long as it lives, which its descriptor says.
    let beside = Pid::from_raw(record.pid);
    let cgroup = record.cgroup()?.zip(beside).map(|(cgroup, first)| cgroup.beside(first));
    let launched = cgroup::seated(proof, cgroup.as_ref(), |seat| {
        let order = launcher::Exec {
            process: &plan,
            container: container.as_fd(),
            stdio: if plan.terminal.is_some() {
                ChildStdio::Terminal
            } else {
                launch::own_streams()
            },
            filter: filter.as_ref().map(|(flags, program)| Filter { program, flags: *flags }),
            seat,
            users: users.as_ref().map(|(namespace, ids)| Users {
                namespace: namespace.as_fd(),
                uids: &ids.uids,
                gids: &ids.gids,
            }),
            // What was run in it before may have more than it has itself.
            tracers: Tracers::Possible,
            // Classes are refused with the container.
            class: None,
        };
        launcher::exec(proof, &order)
    })?;
    loop {
        match launched.control.report() {
            Report::Ready { terminal, .. } => {
                if let Some((terminal, socket)) = terminal.zip(console.as_ref()) {
                    launch::send_terminal(socket, terminal.as_fd())?;
                }
            }
            // An exec has no hooks.
            Report::AtHooks => {}
            Report::Executed => break,
            Report::Failed(error) => return Err(error.into()),
        }
    }
    let child = heir(launched.hand_over, launched.child)?;
    if let Some(path) = line.value("pid-file") {
        launch::write_pid(&PathBuf::from(path), &child)?;
    }
    if line.has("detach") { Ok(0) } else { super::run::wait(&child.pidfd) }
}

/// The process that is the program: the one that the launched one handed its place to.
fn heir(note: Option<HandOver>, launched: Child) -> Result<Child, OciError> {
    let Some(note) = note else { return Ok(launched) };
    let failed = || OciError::io::<std::io::Error>("find the process in the container");
    let pid = note.heir().ok_or_else(|| {
        failed()(std::io::Error::other("it has ended before it was in the container"))
    })?;
    // It is a child of this process that nobody has waited for, so the number is its own.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|e| failed()(e.into()))?;
    Ok(Child { pid, pidfd })
}

/// What is to run: the document that was named, or the container's own process with another command.
/// Capabilities, labels and limits that a document does not name are the container's.
fn process(line: &Invocation, record: &Record) -> Result<Process, OciError> {
    let own = &record.process;
    if let Some(path) = line.value("process") {
        let bytes = std::fs::read(path).map_err(OciError::io(format!("read {path}")))?;
        let mut process: Process = serde_json::from_slice(&bytes).map_err(OciError::json(path))?;
        process.capabilities = process.capabilities.or_else(|| own.capabilities.clone());
        process.apparmor_profile =
            process.apparmor_profile.or_else(|| own.apparmor_profile.clone());
        process.selinux_label = process.selinux_label.or_else(|| own.selinux_label.clone());
        process.no_new_privileges |= own.no_new_privileges || line.has("no-new-privs");
        if process.rlimits.is_empty() {
            process.rlimits.clone_from(&own.rlimits);
        }
        return Ok(process);
    }
    let mut process = own.clone();
    process.args = line.words.get(1..).unwrap_or_default().to_vec();
    process.terminal = line.has("tty");
    process.no_new_privileges |= line.has("no-new-privs");
    line.values("env").for_each(|variable| set_variable(&mut process.env, variable));
    if let Some(cwd) = line.value("cwd") {
        process.cwd = cwd.into();
    }
    if let Some(label) = line.value("process-label") {
        process.selinux_label = Some(label.to_owned());
    }
    if let Some(profile) = line.value("apparmor") {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(user) = line.value("user") {
        process.user = user_of(user, process.user)?;
    }
    for group in line.values("additional-gids") {
        let bad = |_| OciError::Usage(format!("--additional-gids {group:?} is not a number"));
        process.user.additional_gids.push(group.parse().map_err(bad)?);
    }
    // One without any sets has all that the runtime has.
    if let Some(sets) = &mut process.capabilities {
        for name in line.values("cap") {
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                set.push(name.to_owned());
            }
        }
    }
    Ok(process)
}

/// What a document says is not said by an option too.
fn refuse_what_a_document_says(line: &Invocation) -> Result<(), OciError> {
    let options = ["cwd", "env", "user", "additional-gids", "cap", "apparmor", "process-label"];
    match options.iter().find(|name| line.value("process").and(line.value(name)).is_some()) {
        Some(name) => Err(OciError::Usage(format!("--{name} is for --process FILE to say"))),
        None => Ok(()),
    }
}

/// Adds `NAME=VALUE`, in place of what the name had before.
fn set_variable(env: &mut Vec<String>, variable: &str) {
    fn name_of(variable: &str) -> &str {
        variable.split_once('=').map_or(variable, |(name, _)| name)
    }
    env.retain(|known| name_of(known) != name_of(variable));
    env.push(variable.to_owned());
}

/// `UID` or `UID:GID`; all else stays as the container has it.
fn user_of(text: &str, own: User) -> Result<User, OciError> {
    let bad = || OciError::Usage(format!("--user {text:?} is not UID or UID:GID"));
    let (uid, gid) = text.split_once(':').map_or((text, None), |(uid, gid)| (uid, Some(gid)));
    let uid = uid.parse().map_err(|_| bad())?;
    let gid = gid.map_or(Ok(own.gid), |gid| gid.parse().map_err(|_| bad()))?;
    Ok(User { uid, gid, ..own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_one_number_or_two_and_the_rest_is_the_containers() {
        let own = || User { uid: 1, gid: 2, umask: Some(0o77), additional_gids: vec![3] };
        let user = user_of("5:6", own()).unwrap();
        assert_eq!((user.uid, user.gid), (5, 6));
        assert_eq!(user_of("7", own()).unwrap(), User { uid: 7, ..own() });
        for bad in ["", "a", "1:", "1:b", "-1"] {
            assert!(user_of(bad, own()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_variable_has_the_value_that_was_given_last() {
        let mut env = ["A=1", "AB=2"].map(str::to_owned).to_vec();
        for variable in ["A=3", "C=", "A=4=5"] {
            set_variable(&mut env, variable);
        }
        assert_eq!(env, ["AB=2", "C=", "A=4=5"]);
    }
}
