//! Profiles of system call filters, and the programs that come of them.

use runtime_spec::Seccomp;
use seccomp::{Arch, Target, compile, parse_profile, profile_hash};

/// The most instructions that the kernel takes (BPF_MAXINSNS).
const MOST: usize = 4096;

/// A profile, for a process with and without capabilities.
pub fn seccomp(data: &[u8]) {
    let all: Vec<String> = ["CAP_SYS_ADMIN", "CAP_BPF"].map(str::to_owned).into();
    for arch in [Arch::X86_64, Arch::Aarch64] {
        for capabilities in [&[][..], &all] {
            let target = Target { arch, capabilities, kernel: (6, 1) };
            let Ok(profile) = parse_profile(data, &target) else { continue };
            let Ok(filter) = compile(&profile, arch) else { continue };
            is_taken(&filter.program);
            let written = serde_json::to_vec(&profile).unwrap_or_else(|e| panic!("{e}"));
            let again: Seccomp = serde_json::from_slice(&written).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(profile_hash(&again), profile_hash(&profile), "another hash");
            assert_eq!(compile(&again, arch).ok(), Some(filter), "another program");
        }
    }
}

/// What the kernel looks at before it takes a program: whole instructions of the few kinds that filters may have,
/// jumps forward and inside, loads of words that are there, an answer at the end (`bpf_check_classic`,
/// `seccomp_check_filter`).
fn is_taken(program: &[u8]) {
    let (instructions, rest) = program.as_chunks::<8>();
    assert!(rest.is_empty() && !instructions.is_empty(), "{} bytes", program.len());
    assert!(instructions.len() <= MOST, "{} instructions", instructions.len());
    let last = instructions.len() - 1;
    for (at, [c0, c1, jt, jf, k @ ..]) in instructions.iter().enumerate() {
        let k = u32::from_ne_bytes(*k);
        let inside = |skip: usize| at + 1 + skip <= last;
        let right = match u16::from_ne_bytes([*c0, *c1]) {
            0x20 => k < 64 && k.is_multiple_of(4),
            0x54 | 0x06 => true,
            0x05 => inside(k as usize),
            0x15 | 0x25 | 0x35 => inside(usize::from(*jt)) && inside(usize::from(*jf)),
            _ => false,
        };
        assert!(right, "instruction {at} of {}: {:?}", instructions.len(), instructions[at]);
    }
    assert_eq!(&instructions[last][..2], &0x06_u16.to_ne_bytes()[..], "no answer at the end");
}
