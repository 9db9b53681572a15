//! Content, unpacking, snapshots, usage and collection of images.
//!
//! Owns: the directory it was opened on, laid out as docs/formats/image-store.md says, and the
//! writable directories of containers. It mounts nothing: a root file system leaves as data.
//! Always: an image that is listed is whole, and its data reached the disk before its record and
//! its record before its names; nothing that an archive names is followed out of its own directory;
//! no lock is held during I/O on trees; what is deleted goes through the trash, by descriptor.
//! Callers: `images` (pull, load, save, remove) and `pods` (root file systems, volumes, usage).
//! Every call blocks; async callers use a blocking thread.

mod blobs;
mod check;
mod commit;
mod containers;
mod copy;
mod delete;
mod error;
mod export;
mod find;
mod frame;
mod keyed;
mod layout;
mod measure;
mod merged;
mod names;
mod open;
mod options;
mod overlay;
mod pending;
mod projects;
mod quotas;
mod records;
mod remove;
mod replace;
mod scratch;
mod settle;
mod steps;
mod store;
mod stream;
mod sums;
mod sync;
mod tables;
pub mod tar;
mod trash;
mod tree;
mod types;
mod unpack;
mod usage;
mod volumes;

#[cfg(test)]
mod tests;

pub use blobs::{Ended, Partial, Resumed};
pub use check::{Condemned, LayerCheck};
pub use error::{ImageStoreError, LayerError};
pub use names::{ImageName, Pattern};
pub use options::{Limits, Options};
pub use replace::Replaced;
pub use scratch::Scratch;
pub use steps::{NoFaults, Step, Steps};
pub use store::{HeldLayer, ImageStore};
pub use tar::BadArchive;
pub use types::{
    Check, Collected, Finding, Form, FsInfo, FsUsage, Image, LayerInfo, LayerJob, Measured,
    NewImage, RawImage, Removed, Space, Usage,
};
