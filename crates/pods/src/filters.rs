//! Seccomp filters of containers, compiled once for each profile.
//!
//! Always: at most [`KEPT`] compiled filters are kept, a file's by its profile's hash; a file is read anew for
//! each container, so that a changed file is seen.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Class, Classified as _, Profile};
use runtime_spec::Seccomp;
use rustix::fs::OFlags;
use seccomp::{Arch, Target};

use crate::error::Cause;
use crate::host;
use crate::pods::file_failed;

/// Filters that are kept; one has some ten kilobytes.
const KEPT: usize = 64;
/// The longest profile, in bytes.
const PROFILE_MAX: u64 = 1 << 20;

/// A profile and the filter that it is compiled to, as the monitor reads it.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    pub(crate) profile: Arc<Seccomp>,
    pub(crate) file: Arc<Vec<u8>>,
}

/// What a profile is known by, and what it is compiled to.
type Known = (String, Filter);

/// Compiled filters, the one used last at the end.
#[derive(Debug, Clone)]
pub(crate) struct Filters(Arc<Mutex<Vec<Known>>>);

/// Where a profile is to come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The one that is built in.
    BuiltIn,
    /// A file.
    File(PathBuf),
}

/// Where `profile` comes from, with `default` configured in place of the built-in one; `None` for
/// unconfined.
pub(crate) fn source(profile: &Profile, default: Option<&Path>) -> Result<Option<Source>, Cause> {
    match profile {
        Profile::Unconfined => Ok(None),
        Profile::RuntimeDefault => {
            Ok(Some(default.map_or(Source::BuiltIn, |path| Source::File(path.to_owned()))))
        }
        Profile::Localhost(path) if Path::new(path).is_absolute() => {
            Ok(Some(Source::File(path.into())))
        }
        Profile::Localhost(path) => {
            let message = format!("the seccomp profile {path:?} is not an absolute path");
            Err(Cause::other(Class::InvalidArgument, message))
        }
    }
}

impl Filters {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// The filter of a container with these capabilities. It blocks, and may hang with the profile's file.
    pub(crate) fn filter(&self, source: &Source, capabilities: &[String]) -> Result<Filter, Cause> {
        let Some(arch) = Arch::host() else {
            let message = "seccomp profiles are not known for this architecture";
            return Err(Cause::other(Class::Unimplemented, message));
        };
        let target = Target { arch, capabilities, kernel: host::kernel_version() };
        let bad = |what: String| {
            move |e: seccomp::BadProfile| {
                Cause::other(
                    e.class(),
                    format!("seccomp profile {what}: {}", model::with_causes(&e)),
                )
            }
        };
        let (key, profile, name) = match source {
            // The built-in one depends on the target alone, so it need not even be made to be known.
            Source::BuiltIn => {
                let key = key_of_built_in(capabilities);
                if let Some(filter) = self.kept(&key) {
                    return Ok(filter);
                }
                (key, seccomp::default_profile(&target), "of the runtime".to_owned())
            }
            Source::File(path) => {
                let name = path.display().to_string();
                let json = read(path)?;
                let profile = seccomp::parse_profile(&json, &target).map_err(bad(name.clone()))?;
                let key = seccomp::profile_hash(&profile);
                if let Some(filter) = self.kept(&key) {
                    return Ok(filter);
                }
                (key, profile, name)
            }
        };
        let file = seccomp::compile(&profile, arch).map_err(bad(name))?.to_file();
        let filter = Filter { profile: Arc::new(profile), file: Arc::new(file) };
        self.keep(key, filter.clone());
        Ok(filter)
    }

    /// The filter of a container with these capabilities, where it is kept and no file has to be read to know that.
    pub(crate) fn known(&self, source: &Source, capabilities: &[String]) -> Option<Filter> {
        match source {
            Source::BuiltIn => self.kept(&key_of_built_in(capabilities)),
            Source::File(_) => None,
        }
    }

    fn kept(&self, key: &str) -> Option<Filter> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(known, _)| known == key)?;
        let found = all.remove(at);
        let filter = found.1.clone();
        all.push(found);
        Some(filter)
    }

    fn keep(&self, key: String, filter: Filter) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(known, _)| *known != key);
        if all.len() >= KEPT {
            all.remove(0);
        }
        all.push((key, filter));
    }
}

fn key_of_built_in(capabilities: &[String]) -> String {
    format!("built-in {}", capabilities.join(" "))
}

/// The content of a profile's file. A pipe or a device at its path must not keep anybody waiting.
fn read(path: &Path) -> Result<Vec<u8>, Cause> {
    let of_node = |class, problem: &str| {
        Cause::other(class, format!("the seccomp profile {} {problem}", path.display()))
    };
    let failed = |e: io::Error| {
        if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            return of_node(Class::FailedPrecondition, "does not exist on this node");
        }
        file_failed("read the seccomp profile", path)(e)
    };
    let no_file = || of_node(Class::FailedPrecondition, "is no regular file");
    // To open some devices does something already.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(no_file());
    }
    // It may be another by now.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(no_file());
    }
    let mut content = Vec::new();
    file.take(PROFILE_MAX + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > PROFILE_MAX {
        let problem = format!("has more than {PROFILE_MAX} bytes");
        return Err(of_node(Class::InvalidArgument, &problem));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_none_the_runtimes_or_a_file_of_the_node() {
        let localhost = |path: &str| Profile::Localhost(path.to_owned());
        assert!(source(&Profile::Unconfined, None).unwrap().is_none());
        let built_in = source(&Profile::RuntimeDefault, None).unwrap();
        assert!(matches!(built_in, Some(Source::BuiltIn)));
        for (profile, default) in
            [(Profile::RuntimeDefault, Some(Path::new("/p"))), (localhost("/p"), None)]
        {
            let found = source(&profile, default).unwrap();
            assert!(matches!(found, Some(Source::File(path)) if path == Path::new("/p")));
        }
        assert!(source(&localhost("p"), None).is_err());
    }

    #[test]
    fn a_profile_is_a_regular_file_and_anything_else_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("good"), "{}").unwrap();
        assert_eq!(read(&at("good")).unwrap(), b"{}");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), kind, mode, 0).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        for (path, told) in [
            (at("pipe"), "is no regular file"),
            (at("device"), "is no regular file"),
            (dir.path().to_owned(), "is no regular file"),
            (at("none"), "does not exist"),
            (at("good/below"), "does not exist"),
        ] {
            let error = read(&path).unwrap_err();
            assert_eq!(error.class(), Class::FailedPrecondition, "{error}");
            let shown = path.display().to_string();
            assert!(error.to_string().contains(told) && error.to_string().contains(&shown));
        }
        let long = vec![b' '; usize::try_from(PROFILE_MAX).unwrap() + 1];
        fs::write(at("long"), long).unwrap();
        assert_eq!(read(&at("long")).unwrap_err().class(), Class::InvalidArgument);
    }

    #[test]
    fn the_number_of_kept_filters_is_bounded_and_the_one_used_last_stays() {
        let filters = Filters::new();
        let filter = Filter { profile: Arc::default(), file: Arc::default() };
        filters.keep("first".to_owned(), filter.clone());
        for n in 0..KEPT - 1 {
            filters.keep(n.to_string(), filter.clone());
        }
        assert!(filters.kept("first").is_some());
        filters.keep("one more".to_owned(), filter);
        assert!(filters.kept("first").is_some());
        assert!(filters.kept("0").is_none());
        assert_eq!(filters.0.lock().unwrap().len(), KEPT);
    }
}
