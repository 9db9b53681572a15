//! Durable records: one file each, versioned and checksummed.
//!
//! Owns: the directory it was opened on and the byte format of docs/formats/record.md.
//! Always: a record that is read is whole and is the last one that a `put` finished, or it is
//! quarantined and reported; a bad record never stops the others from being read.
//! Callers: `pods` and `images`, which decide what a record says; `image-store`.

mod format;
mod key;
mod store;

pub use format::{BadRecord, Record, decode, encode};
pub use key::{BadKey, Key};
pub use store::{Durability, Loaded, Quarantined, Store, StoreError, read_record};
