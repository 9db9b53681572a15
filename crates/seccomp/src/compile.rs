//! The compiler.

use runtime_spec::Seccomp;

use crate::arch::Arch;
use crate::error::BadProfile;

/// A filter as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledFilter {
    /// An array of `struct sock_filter`, in the host's byte order.
    pub program: Vec<u8>,
    /// SECCOMP_FILTER_FLAG_* bits.
    pub flags: u32,
}

impl CompiledFilter {
    /// The contents of a bundle's `seccomp.bpf`: the flags, little-endian, then the program.
    #[must_use]
    pub fn to_file(&self) -> Vec<u8> {
        [&self.flags.to_le_bytes()[..], &self.program].concat()
    }
}

/// Compiles `profile` for the machine `host`.
///
/// # Errors
/// Words that are not known, actions that are not supported, too many rules.
pub fn compile(_profile: &Seccomp, _host: Arch) -> Result<CompiledFilter, BadProfile> {
    Err(BadProfile::Unsupported { field: "seccomp".to_owned(), what: "compiling".to_owned() })
}
