//! From a bundle to a process that waits for its start, with its record written.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cgroups::Hierarchies;
use launcher::{
    ChildStdio, Control, Create, Filter, OwnedNamespaces, PidHome, Plan, Report, RootSource, Users,
};
use rustix::mount::{MountPropagationFlags, mount_change};
use sys::{Child, Namespaces, SingleThreaded};

use crate::args::Invocation;
use crate::cgroup::{self, Place};
use crate::config::Bundle;
use crate::error::OciError;
use crate::keeper::Listener;
use crate::record::{Directory, Mappings, Record, now};

/// A container whose process waits for its start.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) child: Child,
    pub(crate) control: Control,
    /// Where the order to start it is waited for, if somebody else gives it.
    pub(crate) listener: Option<Listener>,
    /// Where this process was before it made a mount namespace of its own.
    pub(crate) host_mounts: OwnedFd,
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
    let made = prepare(&bundle, id, &directory).map_err(|e| undo().back(e))?;
    let launched = launch(proof, &bundle, &directory, &made, console.as_deref());
    let undo = || Undo { directory: &directory, cgroup: Some(&made.cgroup) };
    let (child, control, host_mounts) = launched.map_err(|e| undo().back(e))?;
    // Whoever finds the record finds whether it waits: so the socket comes before it.
    let listener = (starter == Starter::Later).then(|| Listener::bind(&directory)).transpose();
    let recorded = listener.and_then(|listener| {
        directory.write(&record(&bundle, id, &made, &child)?)?;
        pid_file.map_or(Ok(()), |path| write_pid(&path, &child))?;
        Ok(listener)
    });
    match recorded {
        Ok(listener) => Ok(Created { child, control, listener, host_mounts }),
        Err(error) => {
            let error = undo().back(error);
            Err(error)
        }
    }
}

/// What there is of a container before its process.
struct Made {
    hierarchies: Hierarchies,
    cgroup: Place,
    users: Option<Mappings>,
}

fn prepare(bundle: &Bundle, id: &str, directory: &Directory) -> Result<Made, OciError> {
    let users = bundle.users()?;
    // What the launcher cannot do is told before anything is made.
    refuse_parameters_of_the_host(&bundle.plan()?)?;
    bundle.write_filter(directory)?;
    let hierarchies = Hierarchies::detect()?;
    let path = cgroup::path_of(&bundle.spec, id)?;
    let cgroup = cgroup::create(&hierarchies, &path, &bundle.spec)?;
    Ok(Made { hierarchies, cgroup, users })
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

fn launch(
    proof: &SingleThreaded,
    bundle: &Bundle,
    directory: &Directory,
    made: &Made,
    console: Option<&Path>,
) -> Result<(Child, Control, OwnedFd), OciError> {
    let filter = directory.filter()?;
    let mut plan = bundle.plan()?;
    let console =
        match (plan.process.terminal.is_some(), console) {
            (true, Some(path)) => Some(UnixStream::connect(path).map_err(OciError::io(
                format!("connect to the console socket {}", path.display()),
            ))?),
            (true, None) => {
                let text = "process.terminal needs --console-socket";
                return Err(OciError::Usage(text.to_owned()));
            }
            (false, _) => None,
        };
    let host_mounts = own_mounts()?;
    let owned = made.users.as_ref().map(|users| enter(proof, users, &mut plan)).transpose()?;
    let users = owned.as_ref().zip(made.users.as_ref()).map(|(owned, ids)| Users {
        namespace: owned.users.as_fd(),
        uids: &ids.uids,
        gids: &ids.gids,
    });
    let view = cgroup::view(&made.hierarchies);
    let place = directory.place();
    let stdio = if console.is_some() { ChildStdio::Terminal } else { own_streams() };
    // Its numbers are those that callers have been told, so the process is born there, and seen there while it sets
    // itself up: whoever has CAP_SYS_PTRACE there is as good as the host's root, as with runc and crun.
    let pids = join_pids(&mut plan)?;
    let launched = cgroup::seated(Some(&made.cgroup.cgroup), |seat| {
        let order = Create {
            plan: &plan,
            root: RootSource::Directory(&bundle.rootfs),
            place: &place,
            stdio,
            filter: filter.as_ref().map(|(flags, program)| Filter { program, flags: *flags }),
            host_mounts: host_mounts.as_fd(),
            seat,
            cgroup_view: &view,
            pid_home: PidHome::Planned,
            users,
            finds_program: true,
            own_tree: directory.path(),
        };
        launcher::create(proof, &order)
    });
    // What this process makes next is not of that namespace.
    if let Some(own) = pids {
        sys::join_namespace(own.as_fd(), Namespaces::PID)
            .map_err(OciError::io("leave the PID namespace of the spec"))?;
    }
    let launched = launched?;
    match launched.control.report() {
        Report::Ready { warnings, terminal, .. } => {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            if let Some((terminal, socket)) = terminal.zip(console) {
                send_terminal(&socket, terminal.as_fd())?;
            }
            Ok((launched.child, launched.control, host_mounts))
        }
        Report::Failed(error) => Err(error.into()),
        // Hooks are refused before anything is launched.
        Report::AtHooks | Report::Executed => Err(OciError::WrongState {
            what: "set the container up".to_owned(),
            problem: "its process ended without a word".to_owned(),
        }),
    }
}

/// Has this process's next children born in the PID namespace that the plan names by path, if it does; returns its
/// own one.
fn join_pids(plan: &mut Plan) -> Result<Option<File>, OciError> {
    let Some(at) = plan.joined.iter().position(|(kind, _)| *kind == Namespaces::PID) else {
        return Ok(None);
    };
    let (_, path) = plan.joined.remove(at);
    let join = || -> io::Result<File> {
        let own = File::open("/proc/self/ns/pid")?;
        sys::join_namespace(File::open(&path)?.as_fd(), Namespaces::PID)?;
        Ok(own)
    };
    join().map(Some).map_err(OciError::io(format!("enter the PID namespace {}", path.display())))
}

/// A mount namespace of this process's own, from which no mount reaches the host; returns the one before.
fn own_mounts() -> Result<OwnedFd, OciError> {
    let make = || -> io::Result<OwnedFd> {
        let host = File::open("/proc/self/ns/mnt")?;
        sys::unshare(Namespaces::MOUNT)?;
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        Ok(host.into())
    };
    make().map_err(OciError::io("make a mount namespace"))
}

/// Makes the user namespace and those of the plan's new ones that shall belong to it, and enters the latter.
fn enter(
    proof: &SingleThreaded,
    users: &Mappings,
    plan: &mut Plan,
) -> Result<OwnedNamespaces, OciError> {
    let kinds = [Namespaces::NETWORK, Namespaces::IPC, Namespaces::UTS];
    let others = kinds.into_iter().filter(|kind| plan.new_namespaces.contains(*kind));
    let others = others.fold(Namespaces::NONE, Namespaces::with);
    let made = launcher::new_user_namespace(proof, &users.uids, &users.gids, others)?;
    for (namespace, kind) in [
        (&made.network, Namespaces::NETWORK),
        (&made.ipc, Namespaces::IPC),
        (&made.uts, Namespaces::UTS),
    ] {
        if let Some(namespace) = namespace {
            sys::join_namespace(namespace.as_fd(), kind)
                .map_err(OciError::io("enter the container's namespaces"))?;
            plan.new_namespaces = plan.new_namespaces.without(kind);
        }
    }
    if made.network.is_some() {
        // It is not new any more to whoever sets the container up.
        sys::bring_loopback_up().map_err(OciError::io("bring the loopback interface up"))?;
    }
    Ok(made)
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

fn record(bundle: &Bundle, id: &str, made: &Made, child: &Child) -> Result<Record, OciError> {
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
        users: made.users.clone(),
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
