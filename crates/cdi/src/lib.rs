//! The Container Device Interface (version 1.1 of the CNCF's specification): vendors describe in files what
//! a container needs to use their devices, and a request names devices as `vendor/class=name`.
//!
//! Owns: reading those files, finding devices in them, and the changes of a runtime spec that follow, and who
//! is to blame where one of them fails later. Always:
//! nothing is left out in silence: a field that is not known, or that this node cannot honour, makes the device an
//! error or the file one that is left out, which [`Catalogue::left_out`] names; a device that two files of the same
//! directory define is an error, too.
//! The only I/O is [`Catalogue::read`], which may hang with the file system that it looks at.
//! Callers: `pods`.

mod annotation;
mod apply;
mod catalogue;
mod error;
mod file;
mod name;
mod origin;

pub use annotation::devices_of;
pub use apply::{Edits, Node, NodeKind};
pub use catalogue::Catalogue;
pub use error::CdiError;
pub use name::DeviceName;
pub use origin::Origins;
