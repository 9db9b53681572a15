//! A disk for a measurement: a file system that nobody has used before.
//!
//! What a file system does depends on what it has been through: ext4 without a journal, for one, goes linearly past
//! all inodes that were freed in the last minutes when it makes a file. Each run begins on a new one, as a node has it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Outcome, run, succeeds, target};

/// Its size in bytes; the file behind it is sparse.
const SIZE: u64 = 40 << 30;

/// A new ext4 with a journal on a loop device; it goes when this is dropped.
#[derive(Debug)]
pub struct Disk {
    file: PathBuf,
    place: PathBuf,
}

impl Disk {
    /// Makes it. `None`, and why, where the machine has no loop devices.
    pub fn new() -> Result<Option<Self>, String> {
        let disk = Self { file: target().join("bench.img"), place: target().join("bench-disk") };
        // Of a run that was killed.
        drop(Self { file: disk.file.clone(), place: disk.place.clone() });
        let failed = |what: &str, path: &Path, e| format!("cannot {what} {}: {e}", path.display());
        std::fs::create_dir_all(&disk.place).map_err(|e| failed("make", &disk.place, e))?;
        std::fs::File::create(&disk.file)
            .and_then(|file| file.set_len(SIZE))
            .map_err(|e| failed("make", &disk.file, e))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.file))?;
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&disk.file).arg(&disk.place);
        if let Err(why) = run(&mut mount) {
            println!("no disk of the run's own ({why}): directories are where TMPDIR says");
            return Ok(None);
        }
        println!("directories are on a new ext4 with a journal, on a loop device");
        Ok(Some(disk))
    }

    /// Runs `command` with its temporary files there.
    pub fn run(this: Option<&Self>, command: &mut Command) -> Outcome {
        if let Some(disk) = this {
            command.env("TMPDIR", &disk.place);
        }
        run(command)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not be there, and what still uses it ends with its processes.
        while succeeds(Command::new("umount").arg("--lazy").arg(&self.place)) {}
        for gone in [std::fs::remove_file(&self.file), std::fs::remove_dir(&self.place)] {
            match gone {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    eprintln!("what the measurement had for a disk stays: {e}");
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
}
