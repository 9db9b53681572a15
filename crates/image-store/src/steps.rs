//! Where the store can be cut.

use std::fmt;
use std::io;

/// A step after which the disk looks different to the next one who opens the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// A staging directory is made.
    Stage,
    /// An entry of a layer is written.
    Entry,
    /// A layer's data is brought to the disk.
    Sync,
    /// A staging directory gets its place.
    Place,
    /// A layer is recorded.
    RecordLayer,
    /// Directories that a layer only implies get their attributes.
    Settle,
    /// An image is recorded.
    RecordImage,
    /// A name is recorded.
    RecordName,
    /// A name is removed.
    ForgetName,
    /// An image is removed.
    ForgetImage,
    /// A layer's record is removed.
    ForgetLayer,
    /// A container's use of layers is recorded.
    RecordContainer,
    /// A container's directories are made.
    PrepareContainer,
    /// A container's record is removed.
    ForgetContainer,
    /// A directory is moved to the trash.
    Trash,
    /// A directory in the trash is deleted.
    Delete,
}

/// Asked before each step; an error is the step's error. Tests cut here, as a crash would.
pub trait Steps: fmt::Debug + Send + Sync {
    /// Called before `step` is taken.
    ///
    /// # Errors
    /// The failure that the step is to have.
    fn before(&self, step: Step) -> io::Result<()>;
}

/// Every step is taken, but for those at which a test of the whole daemon has armed a fault.
#[derive(Debug, Clone, Copy)]
pub struct NoFaults;

impl Steps for NoFaults {
    fn before(&self, step: Step) -> io::Result<()> {
        fault::check!("images.", format!("{step:?}"))
    }
}
