//! Architectures as the kernel and profiles name them.

/// An architecture of system calls: what a process on some machine may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// 64 bit x86.
    X86_64,
    /// 32 bit x86.
    X86,
    /// x86_64 with 32 bit pointers: the architecture word of x86_64, and bit 30 in the number.
    X32,
    /// 64 bit ARM.
    Aarch64,
    /// 32 bit ARM, EABI.
    Arm,
}

impl Arch {
    /// That of the machine that this is compiled for; `None` for one without tables here.
    #[must_use]
    pub const fn host() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Aarch64)
        } else if cfg!(target_arch = "x86") {
            Some(Self::X86)
        } else if cfg!(target_arch = "arm") {
            Some(Self::Arm)
        } else {
            None
        }
    }

    /// All that a kernel for `self` runs.
    #[must_use]
    pub const fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 | Self::X32 => &[Self::X86_64, Self::X86, Self::X32],
            Self::X86 => &[Self::X86],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::Arm => &[Self::Arm],
        }
    }

    /// The word in profiles.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X86 => "SCMP_ARCH_X86",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// The name that Docker's profiles use in `includes` and `excludes`.
    #[must_use]
    pub const fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::X86 => "x86",
            Self::X32 => "x32",
            Self::Aarch64 => "arm64",
            Self::Arm => "arm",
        }
    }
}

impl Arch {
    /// The word in a system call's data (AUDIT_ARCH_*).
    pub(crate) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits; of the others only the low half counts.
    pub(crate) const fn is_64_bit(self) -> bool {
        match self {
            Self::X86_64 | Self::X32 | Self::Aarch64 => true,
            Self::X86 | Self::Arm => false,
        }
    }
}
