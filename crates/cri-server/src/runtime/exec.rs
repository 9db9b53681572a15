//! ExecSync; Exec, Attach and PortForward.

use std::time::Duration;

use bytes::Bytes;
use cri_api::v1;
use model::{SandboxState, State};
use tonic::{Response, Status};

use super::{Answer, known_container, known_sandbox};
use crate::parse::{self, At, BadField};
use crate::short_ids::To;
use crate::{
    AttachStreams, ExecStreams, MAX_MESSAGE_BYTES, PortStreams, Services, code, unimplemented,
};

/// Said where output is missing.
const CUT: &[u8] = b"\nisopod: the output was longer than an answer can be, and is cut\n";
/// What both outputs may have together, so that the answer fits into one message, with [`CUT`].
const MAX_OUTPUT: usize = MAX_MESSAGE_BYTES - 64 * 1024;

pub(super) async fn exec_sync(
    services: &Services,
    request: v1::ExecSyncRequest,
) -> Answer<v1::ExecSyncResponse> {
    let command =
        parse::command(At::field("cmd"), request.cmd).map_err(|bad| code::status(&bad))?;
    let timeout = u64::try_from(request.timeout).map_err(|_| {
        code::status(&At::field("timeout").bad(request.timeout, "0 or more seconds are needed"))
    })?;
    let id = known_container(services, &request.container_id, To::Do)?;
    let run = services.pods.exec_sync(&id, command, Duration::from_secs(timeout));
    let done = run.await.map_err(|error| code::status(&error))?;
    let (stdout, stderr) = fitting(done.stdout, done.stderr, done.was_cut);
    Ok(Response::new(v1::ExecSyncResponse { stdout, stderr, exit_code: done.exit_code }))
}

/// Each output keeps at least half of the room; what one does not need the other one has. That something is
/// missing, here or already before, is said on the last line of the standard error.
fn fitting(mut stdout: Vec<u8>, mut stderr: Vec<u8>, was_cut: bool) -> (Bytes, Bytes) {
    let (half, came) = (MAX_OUTPUT / 2, stdout.len() + stderr.len());
    stdout.truncate(MAX_OUTPUT - stderr.len().min(half));
    stderr.truncate(MAX_OUTPUT - stdout.len());
    if was_cut || stdout.len() + stderr.len() < came {
        stderr.extend_from_slice(CUT);
    }
    (stdout.into(), stderr.into())
}

/// With a terminal there is no standard error of its own, and something must be wanted.
fn streams(tty: bool, stdin: bool, stdout: bool, stderr: bool) -> Result<(), BadField> {
    if tty && stderr {
        return Err(At::field("stderr").bad(true, "a terminal has no standard error of its own"));
    }
    if !(stdin || stdout || stderr) {
        let expected = "at least one of stdin, stdout and stderr is needed";
        return Err(At::field("stdout").bad(false, expected));
    }
    Ok(())
}

async fn running(services: &Services, id: &model::ContainerId) -> Result<bool, Status> {
    let asked = services.pods.container_status(id).await;
    let container = asked.map_err(|error| code::status(&error))?;
    match &container.state {
        State::Running { .. } => Ok(container.config.stdio.tty),
        State::Created | State::Exited { .. } => {
            Err(Status::failed_precondition(format!("container {id} is not running")))
        }
    }
}

pub(super) async fn exec(
    services: &Services,
    request: v1::ExecRequest,
) -> Answer<v1::ExecResponse> {
    let command =
        parse::command(At::field("cmd"), request.cmd).map_err(|bad| code::status(&bad))?;
    let v1::ExecRequest { tty, stdin, stdout, stderr, .. } = request;
    streams(tty, stdin, stdout, stderr).map_err(|bad| code::status(&bad))?;
    let container = known_container(services, &request.container_id, To::Do)?;
    let Some(streaming) = &services.streaming else { return unimplemented("Exec") };
    running(services, &container).await?;
    let what = ExecStreams { container, command, tty, stdin, stdout, stderr };
    Ok(Response::new(v1::ExecResponse { url: streaming.exec(what)? }))
}

/// Whether there is a terminal is the container's matter; callers sometimes do not know.
pub(super) async fn attach(
    services: &Services,
    request: &v1::AttachRequest,
) -> Answer<v1::AttachResponse> {
    let &v1::AttachRequest { tty, stdin, stdout, stderr, .. } = request;
    streams(tty, stdin, stdout, stderr).map_err(|bad| code::status(&bad))?;
    let container = known_container(services, &request.container_id, To::Do)?;
    let Some(streaming) = &services.streaming else { return unimplemented("Attach") };
    let tty = running(services, &container).await?;
    let what = AttachStreams { container, tty, stdin, stdout, stderr: stderr && !tty };
    Ok(Response::new(v1::AttachResponse { url: streaming.attach(what)? }))
}

pub(super) async fn port_forward(
    services: &Services,
    request: &v1::PortForwardRequest,
) -> Answer<v1::PortForwardResponse> {
    let mut ports = Vec::with_capacity(request.port.len());
    for (index, port) in request.port.iter().enumerate() {
        let valid = u16::try_from(*port).ok().filter(|port| *port != 0);
        ports.push(valid.ok_or_else(|| {
            let field = format!("port[{index}]");
            code::status(&At::field(&field).bad(port, "a port from 1 to 65535 is needed"))
        })?);
    }
    let sandbox = known_sandbox(services, &request.pod_sandbox_id, To::Do)?;
    let Some(streaming) = &services.streaming else { return unimplemented("PortForward") };
    let asked = services.pods.sandbox_status(&sandbox).await;
    let (status, _) = asked.map_err(|error| code::status(&error))?;
    if status.state != SandboxState::Ready {
        return Err(Status::failed_precondition(format!("sandbox {sandbox} is not ready")));
    }
    let url = streaming.port_forward(PortStreams { sandbox, ports })?;
    Ok(Response::new(v1::PortForwardResponse { url }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_cut_so_that_both_fit() {
        let full = MAX_OUTPUT;
        for (out, err, want_out, want_err) in [
            (10, 20, 10, 20),
            (full, 0, full, 0),
            (full, 10, full - 10, 10),
            (full, full, full / 2, full / 2),
            (5, 2 * full, 5, full - 5),
        ] {
            let (stdout, stderr) = fitting(vec![0; out], vec![0; err], false);
            let is_cut = want_out + want_err < out + err;
            let want_err = want_err + if is_cut { CUT.len() } else { 0 };
            assert_eq!((stdout.len(), stderr.len()), (want_out, want_err), "{out} {err}");
            assert_eq!(stderr.ends_with(CUT), is_cut);
        }
        let (_, stderr) = fitting(vec![0; 10], Vec::new(), true);
        assert_eq!(stderr, CUT, "also what was cut before is said");
    }

    #[test]
    fn wanted_streams_must_make_sense() {
        assert!(streams(true, true, true, false).is_ok());
        assert!(streams(true, true, true, true).is_err());
        assert!(streams(false, false, false, false).is_err());
        assert!(streams(false, false, false, true).is_ok());
    }
}
