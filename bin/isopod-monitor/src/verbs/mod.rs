//! What a daemon can ask, one file each.

mod create;
mod ended;
mod exec;
mod hello;
mod kill;
mod remove;
mod reopen_log;
mod setup;
mod shutdown;
mod start;

use monitor_api::{Reply, Request};

pub use create::launch_reported;
pub use ended::child_ended;
pub use exec::{exec_reported, kill_exec};

use crate::container::ReplyTo;
use crate::monitor::Monitor;

/// Carries a request out, or begins to: those that wait for a process answer later.
pub fn dispatch(monitor: &mut Monitor, reply: ReplyTo, request: Request) {
    let result = match request {
        Request::Hello { protocol } => hello::hello(monitor, protocol),
        Request::Setup(setup) => setup::setup(monitor, reply.connection, setup),
        Request::Create(create) => match create::create(monitor, reply, *create) {
            Ok(None) => return,
            Ok(Some(created)) => Ok(created),
            Err(refusal) => Err(refusal),
        },
        Request::Start { container } => match start::start(monitor, reply, &container) {
            Ok(()) => return,
            Err(refusal) => Err(refusal),
        },
        Request::Kill { container, signal, scope } => kill::kill(monitor, &container, signal, scope),
        Request::ReopenLog { container } => reopen_log::reopen_log(monitor, &container),
        Request::Exec(request) => match exec::exec(monitor, reply, &request) {
            Ok(()) => return,
            Err(refusal) => Err(refusal),
        },
        Request::KillExec { exec } => {
            exec::kill_by_number(monitor, reply.connection, exec);
            Ok(Reply::Done)
        }
        Request::Remove { container } => remove::remove(monitor, &container),
        Request::Shutdown => {
            shutdown::shutdown(monitor);
            Ok(Reply::Done)
        }
    };
    monitor.reply(reply, result);
}
