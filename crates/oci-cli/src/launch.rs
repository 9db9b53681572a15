//! From a bundle to a process that waits for its start, with its record written.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cgroups::Hierarchies;
use launcher::{
    ChildStdio, Control, Create, Filter, HookPlan, PidHome, Plan, Report, RootSource,
    RuntimeNamespaces, Users,
};
use sys::{Child, Namespaces, SingleThreaded};

use crate::args::Invocation;
use crate::cgroup::{self, Place, Shortage};
use crate::config::{Bundle, WantedUsers};
use crate::error::OciError;
use crate::keeper::Listener;
use crate::record::{Directory, Mappings, Record, now};
use crate::{end, hooks, namespaces};

/// What a shell adds to a signal's number for an exit code.
const SIGNALLED: i32 = 128;

/// A container whose process waits for its start.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) child: Child,
    pub(crate) control: Control,
    /// Where the order to start it is waited for, if somebody else gives it.
    pub(crate) listener: Option<Listener>,
    /// Where this process came from.
    pub(crate) runtime: RuntimeNamespaces,
    pub(crate) record: Record,
}

/// Who gives the order to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starter {
    /// This process itself.
    Caller,
    /// Somebody who asks the keeper.
    Later,
}

/// What one of a failed launch leaves is taken back.
struct Undo<'a> {
    directory: &'a Directory,
    cgroup: Option<&'a Place>,
}

impl Undo<'_> {
    fn back(self, error: OciError) -> OciError {
        if let Some(cgroup) = self.cgroup {
            cgroup.undo();
        }
        let _ = self.directory.remove();
        error
    }
}

/// Does what `create` and `run` have in common.
pub(crate) fn create(
    proof: &SingleThreaded,
    line: &Invocation,
    starter: Starter,
) -> Result<Created, OciError> {
    let id = line.id()?;
    let here = std::env::current_dir().map_err(OciError::io("find the working directory"))?;
    let bundle = Bundle::read(&here.join(line.value("bundle").unwrap_or(".")))?;
    // Files that are asked for are named from where the caller is.
    let pid_file = line.value("pid-file").map(|path| here.join(path));
    let console = line.value("console-socket").map(|path| here.join(path));
    let directory = Directory::make(&line.root, id)?;
    let undo = || Undo { directory: &directory, cgroup: None };
    let made = prepare(line, &bundle, id, &directory).map_err(|e| undo().back(e))?;
    let undo = || Undo { directory: &directory, cgroup: Some(&made.cgroup) };
    let begun = launch(proof, &bundle, id, &directory, &made, console.as_deref());
    let begun = begun.map_err(|e| undo().back(e))?;
    // From here on `delete` finds all there is, whatever happens to this process.
    let recorded = record(&bundle, id, &made, &begun)
        .and_then(|record| directory.write(&record).map(|()| record));
    let mut record = recorded.map_err(|e| undo().back(e))?;
    let done = begun.set_up(proof, &made.cgroup).and_then(|()| {
        // Whoever finds the record finds whether it waits: so the socket comes before it.
        let listener =
            (starter == Starter::Later).then(|| Listener::bind(&directory)).transpose()?;
        record.is_creating = false;
        directory.write(&record)?;
        pid_file.map_or(Ok(()), |path| write_pid(&path, &begun.child))?;
        Ok(listener)
    });
    let Begun { child, control, runtime, .. } = begun;
    match done {
        Ok(listener) => Ok(Created { child, control, listener, runtime, record }),
        Err(error) => {
            end::clear(proof, line, &runtime, &child.pidfd);
            Err(error)
        }
    }
}

/// What there is of a container before its process.
struct Made {
    hierarchies: Hierarchies,
    cgroup: Place,
    users: Option<WantedUsers>,
}

fn prepare(
    line: &Invocation,
    bundle: &Bundle,
    id: &str,
    directory: &Directory,
) -> Result<Made, OciError> {
    // What the launcher cannot do is told before anything is made.
    refuse_parameters_of_the_host(&bundle.plan(id)?)?;
    bundle.write_filter(directory)?;
    let hierarchies = Hierarchies::detect()?;
    let path = cgroup::path_of(&bundle.spec, id)?;
    // Whoever deletes that one ends all in it, and removes it if it was made for it.
    if let Some((holder, status)) = Directory::holder_of(&line.root, &path) {
        return Err(OciError::WrongState {
            what: format!("use the cgroup {path}"),
            problem: format!("it is that of the container {holder}, which is {}", status.as_str()),
        });
    }
    let cgroup = cgroup::create(&hierarchies, &path, &bundle.spec)?;
    Ok(Made { hierarchies, cgroup, users: bundle.users() })
}

/// A namespace that is joined by its path may be the host's own, and its parameters the host's.
fn refuse_parameters_of_the_host(plan: &Plan) -> Result<(), OciError> {
    if plan.sysctls.is_empty() {
        return Ok(());
    }
    for (kind, path) in &plan.joined {
        let own = match *kind {
            Namespaces::NETWORK => "net",
            Namespaces::IPC => "ipc",
            Namespaces::UTS => "uts",
            _ => continue,
        };
        let look = |path: &Path| {
            let found = std::fs::metadata(path);
            let found = found.map_err(OciError::io(format!("look at {}", path.display())))?;
            Ok::<_, OciError>((found.dev(), found.ino()))
        };
        if look(path)? == look(&Path::new("/proc/self/ns").join(own))? {
            return Err(OciError::Usage(format!(
                "config.json: linux.sysctl: the namespace {} is the host's",
                path.display()
            )));
        }
    }
    Ok(())
}

/// A process that sets itself up, and what is beside it.
struct Begun {
    child: Child,
    control: Control,
    hooks: Option<Box<HookPlan>>,
    users: Option<Mappings>,
    runtime: RuntimeNamespaces,
    console: Option<UnixStream>,
}

impl Begun {
    /// Waits until it waits for its start; its hooks run on the way.
    fn set_up(&self, proof: &SingleThreaded, place: &Place) -> Result<(), OciError> {
        loop {
            match self.control.report() {
                Report::Ready { warnings, terminal, .. } => {
                    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
                    if let Some((terminal, socket)) = terminal.zip(self.console.as_ref()) {
                        send_terminal(socket, terminal.as_fd())?;
                    }
                    return Ok(());
                }
                Report::AtHooks => {
                    if let Some(plan) = &self.hooks {
                        hooks::prepare(proof, plan, &self.runtime, &self.child)?;
                    }
                    // If it is gone its last report tells why.
                    let _ = self.control.hooks_run();
                }
                Report::Failed(error) => return Err(error.into()),
                Report::Executed => {
                    return Err(OciError::WrongState {
                        what: "set the container up".to_owned(),
                        problem: self.silent_end(place),
                    });
                }
            }
        }
    }

    /// How its process has ended that has told nothing, and what it lacked.
    fn silent_end(&self, place: &Place) -> String {
        // Its end of the socket goes a moment before it is a zombie.
        end::wait_for(&self.child.pidfd);
        let how = match sys::wait_exit(self.child.pidfd.as_fd()) {
            Ok(Some(code)) => how_ended(code),
            Ok(None) => "it has not ended yet".to_owned(),
            Err(e) => e.to_string(),
        };
        let lacked = Shortage::of(&place.cgroup).since(place.shortage);
        let lacked = lacked.map(|what| format!("; {what}")).unwrap_or_default();
        format!("its process ended without a word ({how}{lacked})")
    }
}

/// What [`sys::wait_exit`] gives, for people.
fn how_ended(code: i32) -> String {
    match code.checked_sub(SIGNALLED).map(model::Signal::from_number) {
        Some(Ok(signal)) => format!("killed by {signal}"),
        Some(Err(_)) | None => format!("exit code {code}"),
    }
}

fn connect(plan: &Plan, console: Option<&Path>) -> Result<Option<UnixStream>, OciError> {
    match (plan.process.terminal.is_some(), console) {
        (true, Some(path)) => {
            let failed = OciError::io(format!("connect to the console socket {}", path.display()));
            UnixStream::connect(path).map(Some).map_err(failed)
        }
        (true, None) => Err(OciError::Usage("process.terminal needs --console-socket".to_owned())),
        (false, _) => Ok(None),
    }
}

/// Where the root file system gets its place in the container's mount namespace. Hooks that run before it is the root
/// look for it where the bundle has it, and may mount something there.
fn place(plan: &Plan, bundle: &Bundle, directory: &Directory) -> Result<PathBuf, OciError> {
    if !plan.hooks.as_ref().is_some_and(|hooks| hooks.before_pivot()) {
        return Ok(directory.place());
    }
    let failed = OciError::io(format!("find the root file system {}", bundle.rootfs.display()));
    // A mount does not follow a link to its place.
    let rootfs = bundle.rootfs.canonicalize().map_err(failed)?;
    // The host's own root cannot be covered.
    Ok(if rootfs.parent().is_some() { rootfs } else { directory.place() })
}

fn launch(
    proof: &SingleThreaded,
    bundle: &Bundle,
    id: &str,
    directory: &Directory,
    made: &Made,
    console: Option<&Path>,
) -> Result<Begun, OciError> {
    let filter = directory.filter()?;
    let mut plan = bundle.plan(id)?;
    let console = connect(&plan, console)?;
    let runtime = RuntimeNamespaces::of_this().map_err(OciError::io("open the namespaces"))?;
    namespaces::own_mounts()?;
    let enter = |wanted| namespaces::enter(proof, wanted, &mut plan);
    let owned = made.users.as_ref().map(enter).transpose()?;
    let users = owned.as_ref().map(|(owned, ids)| Users {
        namespace: owned.users.as_fd(),
        uids: &ids.uids,
        gids: &ids.gids,
    });
    let view = cgroup::view(&made.hierarchies);
    let place = place(&plan, bundle, directory)?;
    let stdio = if console.is_some() { ChildStdio::Terminal } else { own_streams() };
    let launched = cgroup::seated(proof, Some(&made.cgroup.cgroup), |seat| {
        // Its numbers are those that callers have been told, so the process is born there, and seen there while it
        // sets itself up: whoever has CAP_SYS_PTRACE there is as good as the host's root, as with runc and crun.
        let pids = namespaces::join_pids(&mut plan)?;
        let order = Create {
            plan: &plan,
            root: RootSource::Directory(&bundle.rootfs),
            place: &place,
            stdio,
            filter: filter.as_ref().map(|(flags, program)| Filter { program, flags: *flags }),
            host_mounts: runtime.mounts(),
            seat,
            cgroup_view: &view,
            pid_home: PidHome::Planned,
            users,
            finds_program: true,
            own_tree: directory.path(),
        };
        let launched = launcher::create(proof, &order);
        // What this process makes next is not of that namespace.
        if let Some(own) = pids {
            sys::join_namespace(own.as_fd(), Namespaces::PID)
                .map_err(OciError::io("leave the PID namespace of the spec"))?;
        }
        Ok::<_, OciError>(launched?)
    });
    let launcher::Launched { child, control, .. } = launched?;
    let users = owned.map(|(_, ids)| ids);
    Ok(Begun { child, control, hooks: plan.hooks, users, runtime, console })
}

/// This process's own standard streams.
pub(crate) fn own_streams() -> ChildStdio<'static> {
    ChildStdio::Streams {
        stdin: rustix::stdio::stdin(),
        stdout: rustix::stdio::stdout(),
        stderr: rustix::stdio::stderr(),
    }
}

/// Hands the controlling end of a terminal over, as `--console-socket` wants it.
pub(crate) fn send_terminal(socket: &UnixStream, terminal: BorrowedFd<'_>) -> Result<(), OciError> {
    sys::send(socket.as_fd(), b"/dev/ptmx", &[terminal])
        .map(drop)
        .map_err(OciError::io("hand the terminal over"))
}

fn record(bundle: &Bundle, id: &str, made: &Made, begun: &Begun) -> Result<Record, OciError> {
    let child = &begun.child;
    let start_time =
        sys::start_time(child.pid).map_err(OciError::io("look at the container's process"))?;
    Ok(Record {
        oci_version: bundle.spec.oci_version.clone(),
        id: id.to_owned(),
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: now(),
        annotations: bundle.spec.annotations.clone(),
        pid: child.pid.as_raw_nonzero().get(),
        start_time,
        cgroup: Some(made.cgroup.cgroup.path().clone()),
        keeps_cgroup: !made.cgroup.is_new,
        process: bundle.spec.process.clone().unwrap_or_default(),
        users: begun.users.clone(),
        hooks: bundle.spec.hooks.clone().unwrap_or_default(),
        is_creating: true,
    })
}

/// Writes a process's number for whoever waits for it, whole or not at all.
pub(crate) fn write_pid(path: &Path, child: &Child) -> Result<(), OciError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let write = || -> io::Result<()> {
        std::fs::write(&new, child.pid.as_raw_nonzero().to_string())?;
        std::fs::rename(&new, path)
    };
    write().map_err(OciError::io(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_its_signal_or_its_code() {
        assert_eq!(how_ended(137), "killed by SIGKILL");
        assert_eq!(how_ended(1), "exit code 1");
        assert_eq!(how_ended(125), "exit code 125");
    }
}
