//! What a daemon can ask, one file each.

mod attach;
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

use std::os::fd::OwnedFd;

use monitor_api::{Refusal, Reply, Request};

pub use create::{launch_reported, read_stream, set_up_failed, use_terminal};
pub use ended::{child_ended, end_container};
pub use exec::{exec_reported, kill_exec};

use crate::container::ReplyTo;
use crate::monitor::Monitor;

/// What a request comes to for now.
enum Outcome {
    Answer(Reply),
    AnswerWith(Reply, Vec<OwnedFd>),
    /// It waits for a process, whose end or word is the answer.
    Later,
}

/// Carries a request out, or begins to.
pub fn dispatch(monitor: &mut Monitor, reply: ReplyTo, request: Request, fds: Vec<OwnedFd>) {
    let verb = verb(&request);
    fault::point!("monitor.", verb, ".before");
    let outcome = carry_out(monitor, reply, request, fds);
    fault::point!("monitor.", verb, ".done");
    match outcome {
        Ok(Outcome::Answer(answer)) => monitor.reply(reply, Ok(answer)),
        Ok(Outcome::AnswerWith(answer, fds)) => monitor.reply_with(reply, Ok(answer), fds),
        Ok(Outcome::Later) => {}
        Err(refusal) => monitor.reply(reply, Err(refusal)),
    }
}

/// What a request asks for, in a word.
fn verb(request: &Request) -> &'static str {
    match request {
        Request::Hello { .. } => "hello",
        Request::Setup(_) => "setup",
        Request::Create(_) => "create",
        Request::Start { .. } => "start",
        Request::Kill { .. } => "kill",
        Request::ReopenLog { .. } => "reopen-log",
        Request::Exec(_) => "exec",
        Request::KillExec { .. } => "kill-exec",
        Request::HangUp { .. } => "hang-up",
        Request::Attach(_) => "attach",
        Request::Detach { .. } => "detach",
        Request::CloseStdin { .. } => "close-stdin",
        Request::Resize { .. } => "resize",
        Request::Sockets => "sockets",
        Request::Remove { .. } => "remove",
        Request::Shutdown => "shutdown",
    }
}

fn carry_out(
    monitor: &mut Monitor,
    reply: ReplyTo,
    request: Request,
    fds: Vec<OwnedFd>,
) -> Result<Outcome, Refusal> {
    let with = |(answer, fds)| Outcome::AnswerWith(answer, fds);
    let later = |()| Outcome::Later;
    match request {
        Request::Hello { protocol } => hello::hello(monitor, protocol).map(Outcome::Answer),
        Request::Setup(setup) => setup::setup(monitor, setup, fds).map(with),
        Request::Create(create) => create::create(monitor, reply, *create)
            .map(|answer| answer.map_or(Outcome::Later, Outcome::Answer)),
        Request::Start { container } => start::start(monitor, reply, &container).map(later),
        Request::Kill { container, signal, scope } => {
            kill::kill(monitor, &container, signal, scope).map(Outcome::Answer)
        }
        Request::ReopenLog { container } => {
            reopen_log::reopen_log(monitor, &container).map(Outcome::Answer)
        }
        Request::Exec(request) => exec::exec(monitor, reply, &request, fds).map(later),
        Request::KillExec { exec } => {
            exec::kill_by_number(monitor, reply.connection, exec);
            Ok(Outcome::Answer(Reply::Done))
        }
        Request::HangUp { exec } => {
            exec::hang_up(monitor, reply.connection, exec);
            Ok(Outcome::Answer(Reply::Done))
        }
        Request::Attach(request) => attach::attach(monitor, reply, &request).map(with),
        Request::Detach { attach } => {
            Ok(Outcome::Answer(attach::detach(monitor, reply.connection, attach)))
        }
        Request::CloseStdin { container } => {
            attach::close_stdin(monitor, &container).map(Outcome::Answer)
        }
        Request::Resize { container, size } => {
            attach::resize(monitor, &container, size).map(Outcome::Answer)
        }
        Request::Sockets => attach::sockets(monitor).map(with),
        Request::Remove { container } => remove::remove(monitor, reply, &container)
            .map(|answer| answer.map_or(Outcome::Later, Outcome::Answer)),
        Request::Shutdown => {
            shutdown::shutdown(monitor);
            Ok(Outcome::Answer(Reply::Done))
        }
    }
}
