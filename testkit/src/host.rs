//! A network namespace for a test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Moves this thread, and what it starts from now on, into a network namespace of its own with
/// loopback up: bridges, rules and ports of a test meet nobody else's, and end with it.
///
/// # Panics
/// Without the privilege for it.
pub fn isolate_network() {
    sys::unshare(sys::Namespaces::NETWORK).expect("a network namespace can be made");
    run(Command::new("ip").args(["link", "set", "lo", "up"]));
}

/// A mount of a test's own, which ends with this value.
#[derive(Debug)]
pub struct Mounted {
    at: PathBuf,
    /// Until it is removed, where it was made for this.
    directory: Option<TempDir>,
    /// Where a file system's questions are waiting to be read by nobody.
    questions: Option<File>,
}

impl Mounted {
    /// An empty tmpfs of a size such as `16m`, at a directory.
    ///
    /// # Panics
    /// Where it cannot be mounted.
    #[must_use]
    pub fn tmpfs(at: &Path, size: &str) -> Self {
        let options = format!("size={size}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "isopod-test"]).arg(at));
        Self { at: at.to_owned(), directory: None, questions: None }
    }

    /// A file system that does not answer, as one of a server that is gone; whoever looks at it hangs until this
    /// value is dropped, and then has an error.
    ///
    /// # Panics
    /// Where it cannot be mounted.
    #[must_use]
    pub fn hung(at: &Path) -> Self {
        let questions = File::options().read(true).write(true).open("/dev/fuse");
        let questions = questions.expect("/dev/fuse can be opened");
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
        let input = questions.try_clone().expect("it can be opened twice");
        run(Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", options, "isopod-test"])
            .arg(at)
            .stdin(input));
        Self { at: at.to_owned(), directory: None, questions: Some(questions) }
    }

    /// The same at a directory of its own: a small disk.
    ///
    /// # Panics
    /// Where it cannot be mounted.
    #[must_use]
    pub fn disk(size: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("isopod-disk-").tempdir();
        let directory = directory.expect("a temporary directory");
        let mut disk = Self::tmpfs(directory.path(), size);
        disk.directory = Some(directory);
        disk
    }

    /// A file system of this kind, `ext4` or `xfs`, in a file, with project quotas that are kept: a disk of 320 MiB.
    ///
    /// # Panics
    /// Where it cannot be made or mounted: the kernel has no quotas, or the programs are not installed.
    #[must_use]
    pub fn with_project_quotas(kind: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("isopod-disk-").tempdir();
        let directory = directory.expect("a temporary directory");
        let (image, at) = (directory.path().join("image"), directory.path().join("at"));
        std::fs::create_dir(&at).expect("a directory");
        File::create(&image).and_then(|file| file.set_len(320 << 20)).expect("a file");
        let mut make = Command::new(format!("mkfs.{kind}"));
        make.arg("-q");
        if kind == "ext4" {
            make.args(["-O", "quota,project", "-E", "quotatype=prjquota"]);
        }
        run(make.arg(&image));
        run(Command::new("mount").args(["-o", "loop,prjquota"]).args([&image, &at]));
        Self { at, directory: Some(directory), questions: None }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.questions.take());
        // Its directory may have been removed with it already.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).output();
        drop(self.directory.take());
    }
}

/// Runs a command that must succeed, and gives what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?} failed: {}: {said}", done.status);
    String::from_utf8_lossy(&done.stdout).into_owned()
}
