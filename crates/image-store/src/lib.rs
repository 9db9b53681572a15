//! Content, unpacking, snapshots, usage and collection of images.
//!
//! Owns: the directory it was opened on, laid out as docs/formats/image-store.md says, and the
//! writable directories of containers. It mounts nothing: a root file system leaves as data.
//! Always: an image that is listed is whole, and its data reached the disk before its record and
//! its record before its names; nothing that an archive names is followed out of its own directory;
//! no lock is held during I/O on trees; what is deleted goes through the trash, by descriptor.
//! Callers: `images` (pull, load, save, remove) and `pods` (root file systems, volumes, usage).
//! Every call blocks; async callers use a blocking thread.

mod error;
mod names;
mod options;
mod steps;
mod store;
pub mod tar;
mod types;

pub use error::{ImageStoreError, LayerError};
pub use names::{ImageName, Pattern};
pub use options::{Limits, Options};
pub use steps::{NoFaults, Step, Steps};
pub use store::{HeldLayer, ImageStore};
pub use tar::BadArchive;
pub use types::{
    Collected, Finding, FsInfo, FsUsage, Image, LayerInfo, LayerJob, Measured, NewImage, RawImage,
    Removed, Usage,
};
