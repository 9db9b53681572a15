//! The first process of a PID namespace that a pod's containers share: it reaps, and nothing else.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, WaitIdOptions, set_parent_process_death_signal, waitid};
use sys::{Child, CloneFlags, Namespaces, SingleThreaded, clone_child};

const NAME: &CStr = c"isopod-init";

/// Starts it in a new PID namespace. When the monitor ends it is killed, and everything in its
/// namespace with it.
pub fn start(proof: &SingleThreaded) -> io::Result<Child> {
    let flags = CloneFlags { namespaces: Namespaces::PID, cgroup: None };
    clone_child(proof, flags, |in_child| {
        let _ = in_child.close_all_but(&[]);
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let _ = rustix::thread::set_name(NAME);
        sys::reset_signals();
        reap_forever()
    })
}

fn reap_forever() -> Infallible {
    let Ok(signals) = sys::child_signals() else { sys::exit_now(1) };
    loop {
        let mut ready = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        let _ = poll(&mut ready, None);
        let mut drop_them = [0; 1024];
        let _ = rustix::io::read(&signals, &mut drop_them);
        while let Ok(Some(_)) = waitid(rustix::process::WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
    }
}
