//! What went wrong, for people: the deed, its cause, and what to do about it.

use std::error::Error;
use std::fmt::Write;
use std::io;

use model::with_causes;
use tonic::{Code, Status};

use super::patience::NoAnswer;

/// The exit code for a failure of the command line or the daemon, as opposed to one that a
/// container's own process ended with.
pub const EXIT_FAILURE: u8 = 1;

/// What a verb gives back: the exit code.
pub type Outcome = Result<u8, Failure>;

/// A verb that could not do what it says.
#[derive(Debug)]
pub struct Failure {
    /// What was being done, to what: `pull image busybox`.
    doing: String,
    /// Why that failed.
    cause: String,
    /// What the person can do.
    advice: Option<String>,
    code: Option<Code>,
}

impl Failure {
    /// `doing` failed because of `cause`.
    pub fn new(doing: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { doing: doing.into(), cause: cause.into(), advice: None, code: None }
    }

    /// The same with a hint at what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// What the runtime answered to `doing`.
    pub fn answer(doing: impl Into<String>, status: &Status) -> Self {
        let doing = doing.into();
        if let Some(none) = status.source().and_then(|source| source.downcast_ref::<NoAnswer>()) {
            return Self::new(doing, none.to_string()).advise(
                "it hangs, or has too much to do: `isopod doctor` looks at it, and pods go on while it is \
                 restarted; --request-timeout waits longer, with 0 for as long as it takes",
            );
        }
        // What a runtime answers has no source: this is of the connection.
        if let Some(lost) = status.source() {
            let cause = format!("the connection to the runtime was lost: {}", with_causes(lost));
            return Self::new(doing, cause).advise(
                "what was asked for may have been done all the same; `isopod status` tells whether the runtime is \
                 there again",
            );
        }
        let code = status.code();
        let cause = match status.message() {
            "" => format!("the runtime answers {code:?} and says no more"),
            said => said.to_owned(),
        };
        let advice = advice_for(code, &doing, &cause).map(str::to_owned);
        Self { doing, cause, advice, code: Some(code) }
    }

    /// `doing` failed with an error of this machine.
    pub fn caused(doing: impl Into<String>, error: &dyn Error) -> Self {
        Self::new(doing, with_causes(error))
    }

    /// The code that the runtime answered with, if it was the runtime that failed.
    pub fn code(&self) -> Option<Code> {
        self.code
    }

    /// As it is printed, with a line break at the end.
    pub fn report(&self) -> String {
        let mut text = format!("isopod: cannot {}: {}\n", self.doing, self.cause);
        if let Some(advice) = &self.advice {
            let _ = writeln!(text, "  {advice}");
        }
        text
    }
}

/// What a code means for the person at the terminal, who did what `doing` says and was told `cause`.
fn advice_for(code: Code, doing: &str, cause: &str) -> Option<&'static str> {
    match code {
        Code::NotFound => Some(where_to_look(doing)),
        Code::Unimplemented => {
            Some("this runtime does not offer that; `isopod version` shows which it is")
        }
        Code::PermissionDenied if cause.contains("read-only socket") => Some(
            "this socket only shows what there is: name the full one with --endpoint, which takes root or its group",
        ),
        Code::PermissionDenied | Code::Unauthenticated if is_of_registry(doing) => {
            Some(if cause.contains("SignatureValidationFailed") {
                "images.policy of the daemon's configuration says which images are let in"
            } else {
                "credentials for a registry are given with --creds USER, or in the daemon's configuration"
            })
        }
        // It was whoever asked who set this limit, and nothing goes on.
        Code::DeadlineExceeded if cause.contains("its command was killed") => None,
        Code::DeadlineExceeded => Some("`isopod operations` shows what the daemon is still doing"),
        Code::ResourceExhausted => Some("`isopod imagefsinfo` and `df` show what is full"),
        Code::Ok
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => None,
    }
}

/// Whether a registry was talked to.
fn is_of_registry(doing: &str) -> bool {
    ["pull ", "push "].iter().any(|verb| doing.starts_with(verb))
}

/// What shows what there is of the kind that was looked for.
fn where_to_look(doing: &str) -> &'static str {
    if is_of_registry(doing) {
        return "look whether the name and the tag are right; some registries say so too where --creds USER is needed";
    }
    let is_about = |kind: &str| doing.split(' ').any(|word| word == kind);
    if is_about("container") {
        "`isopod ps -a` shows which containers there are"
    } else if is_about("pod") {
        "`isopod pods` shows which pods there are"
    } else if is_about("image") {
        "`isopod images` shows which images there are"
    } else {
        "`isopod ps -a`, `isopod pods` and `isopod images` show what there is"
    }
}

/// Names the deed where an answer or an error of this machine is turned into a failure.
pub trait Doing<T> {
    /// `doing` is what fails if this is an error.
    fn doing(self, doing: impl Into<String>) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, Status> {
    fn doing(self, doing: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|status| Failure::answer(doing, &status))
    }
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::caused(doing, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_that_was_asked_for_has_no_advice_and_another_has() {
        let said = |message: &str| {
            Failure::answer("run \"x\" in container c", &Status::deadline_exceeded(message))
                .report()
        };
        let error = pods::PodsError::ExecTimeout { object: "d/web/c".to_owned(), seconds: 1 };
        let asked_for = said(&error.to_string());
        assert!(!asked_for.contains("isopod operations"), "{asked_for}");
        let ours = said("ExecSync d/web/c: exec: no answer in 30 s");
        assert!(ours.contains("isopod operations"), "{ours}");
    }

    #[test]
    fn a_failure_says_deed_cause_and_what_to_do() {
        let status = Status::not_found("no container abc");
        let text = Failure::answer("stop container abc", &status).report();
        assert!(
            text.starts_with("isopod: cannot stop container abc: no container abc\n  `isopod ps")
        );
        let silent = Failure::answer("list images", &Status::new(Code::Internal, ""));
        assert!(silent.report().contains("Internal"), "{}", silent.report());
    }

    #[test]
    fn advice_fits_what_was_done() {
        let told = |doing: &str, status: Status| Failure::answer(doing, &status).report();
        let read_only = || Status::permission_denied("Exec is not served on the read-only socket");
        assert!(told("run \"ls\" in container c", read_only()).contains("--endpoint"));
        assert!(!told("explain c", Status::permission_denied("no")).contains("--creds"));
        assert!(told("pull nginx", Status::unauthenticated("401")).contains("--creds"));
        let policy = Status::permission_denied("SignatureValidationFailed: nginx: no signature");
        assert!(told("pull nginx", policy).contains("images.policy"));
        let pull = told("pull nginx:no", Status::not_found("no such tag"));
        assert!(pull.contains("the tag") && !pull.contains("isopod ps"), "{pull}");
        assert!(told("stop pod p", Status::not_found("none")).contains("`isopod pods`"));
        let hangs = told(
            "read the status",
            Status::from_error(Box::new(NoAnswer { waited: std::time::Duration::from_secs(30) })),
        );
        assert!(hangs.contains("cannot read the status: the runtime does not answer"), "{hangs}");
        assert!(hangs.contains("30s") && hangs.contains("--request-timeout"), "{hangs}");
    }
}
