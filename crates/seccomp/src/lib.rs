//! System call filters: from a profile to a BPF program.
//!
//! Owns: the compiler, the tables of system call numbers, the default profile, the reading of profiles.
//! Always: no I/O; a program answers for every architecture that the kernel could run, and one that the
//! profile does not name gets no system call at all; a number newer than the tables answers ENOSYS, so that
//! a program falls back to what it did before the call existed. Callers: `pods`, which keeps programs by
//! the profile's hash; the monitor installs them.

mod arch;
mod compile;
mod default_profile;
mod error;
mod hash;
mod profile;

pub use arch::Arch;
pub use compile::{CompiledFilter, compile};
pub use default_profile::default_profile;
pub use error::BadProfile;
pub use hash::profile_hash;
pub use profile::{Target, parse_profile};
