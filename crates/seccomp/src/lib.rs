//! System call filters: from a profile to a BPF program.
//!
//! Owns: the compiler, the tables of system call numbers, the default profile, the reading of profiles.
//! Always: no I/O; a program answers for every architecture that the kernel could run, and a call of one
//! that the profile does not mean ends the process; a number above all that the profile names answers
//! ENOSYS, so that a program falls back to what it did before the call existed. Callers: `pods`, which keeps
//! programs by the profile's hash; the monitor installs them.

mod arch;
mod bpf;
mod compile;
mod default_profile;
mod error;
mod hash;
#[cfg(test)]
mod interpret;
mod profile;
mod rules;
mod table;

pub use arch::Arch;
pub use compile::{CompiledFilter, compile};
pub use default_profile::default_profile;
pub use error::BadProfile;
pub use hash::profile_hash;
pub use profile::{Target, parse_profile};
