//! Device rules as an eBPF program for BPF_PROG_TYPE_CGROUP_DEVICE.
//!
//! Pure. The kernel asks with `struct bpf_cgroup_dev_ctx`: the access in the upper half of a word whose
//! lower half is the kind, then the major and the minor number; 1 is yes and 0 is no.

use super::rules::{ALL, Devices, Kind, Rules};

// linux/bpf.h: BPF_DEVCG_DEV_*.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

// Registers: the answer, the question's address and later scratch, and its parts.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_IF_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, to, from, offset, value }
}

/// The program that means `rules`: 8 bytes for each instruction, in the host's byte order.
pub(crate) fn generate(rules: &Rules) -> Vec<u8> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(AND, KIND, 0, 0, 0xffff),
    ];
    for (devices, access) in &rules.exceptions {
        program.extend(exception(*devices, *access, !rules.allow));
    }
    program.extend(answer(rules.allow));
    program.iter().flat_map(encode).collect()
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(MOVE, ANSWER, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

/// Answers `allow` for what is asked of these devices, and else goes on behind itself. What is allowed must
/// be all that is asked; to deny, a part of it is enough.
fn exception(devices: Devices, access: u32, allow: bool) -> Vec<Instruction> {
    let kind = match devices.kind {
        Kind::Block => BLOCK,
        Kind::Char => CHAR,
    };
    let mut checks = vec![(JUMP_IF_NOT_EQUAL, KIND, kind)];
    for (register, number) in [(MAJOR, devices.major), (MINOR, devices.minor)] {
        checks.extend(number.map(|n| (JUMP_IF_NOT_EQUAL, register, n.cast_signed())));
    }
    let mut body: Vec<Instruction> = Vec::new();
    let other_than = (ALL & !access).cast_signed();
    if other_than != 0 || !allow {
        let (mask, skip) = if allow {
            (other_than, JUMP_IF_NOT_EQUAL)
        } else {
            (access.cast_signed(), JUMP_IF_EQUAL)
        };
        body.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        body.push(instruction(AND, SCRATCH, 0, 0, mask));
        checks.push((skip, SCRATCH, 0));
    }
    // The register of the last check has its value only behind the instructions of the body.
    let plain = if body.is_empty() { checks.len() } else { checks.len() - 1 };
    let length = checks.len() + body.len() + 2;
    let mut all = Vec::with_capacity(length);
    let jump = |at: usize, (code, register, value): (u8, u8, i32)| {
        // At most eight instructions.
        let offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
        instruction(code, register, 0, offset, value)
    };
    for check in &checks[..plain] {
        all.push(jump(all.len(), *check));
    }
    all.extend(body);
    for check in &checks[plain..] {
        all.push(jump(all.len(), *check));
    }
    all.extend(answer(allow));
    all
}

fn encode(i: &Instruction) -> [u8; 8] {
    let registers =
        if cfg!(target_endian = "little") { i.from << 4 | i.to } else { i.to << 4 | i.from };
    let [o0, o1] = i.offset.to_ne_bytes();
    let [v0, v1, v2, v3] = i.value.to_ne_bytes();
    [i.code, registers, o0, o1, v0, v1, v2, v3]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rules::{MKNOD, READ, Rule, WRITE};
    use super::*;

    /// The kernel's side, for the instructions that are used here.
    fn run(program: &[u8], kind: i32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind.cast_unsigned(), major, minor];
        let mut registers = [0_u32; 6];
        let mut at = 0;
        loop {
            let [code, operands, o0, o1, value @ ..]: [u8; 8] =
                program[at * 8..at * 8 + 8].try_into().unwrap();
            let (to, from) = (usize::from(operands & 15), usize::from(operands >> 4));
            let offset = usize::try_from(i16::from_ne_bytes([o0, o1])).unwrap();
            let value = u32::from_ne_bytes(value);
            at += 1;
            match code {
                LOAD_WORD => {
                    assert_eq!(from, usize::from(CONTEXT));
                    registers[to] = context[offset / 4];
                }
                MOVE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP_IF_EQUAL => at += if registers[to] == value { offset } else { 0 },
                JUMP_IF_NOT_EQUAL => at += if registers[to] == value { 0 } else { offset },
                EXIT => return registers[usize::from(ANSWER)] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    /// What the kernel does with v1's list.
    fn meaning(rules: &Rules, kind: Kind, access: u32, major: u32, minor: u32) -> bool {
        let is_exception = rules.exceptions.iter().any(|(devices, of)| {
            let same = devices.kind == kind
                && devices.major.is_none_or(|n| n == major)
                && devices.minor.is_none_or(|n| n == minor);
            same && if rules.allow { access & of != 0 } else { access & !of == 0 }
        });
        is_exception != rules.allow
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Char), Just(Kind::Block)]
    }

    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![0_u32..3, Just(u32::MAX)]
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let devices = (kind(), prop::option::of(number()), prop::option::of(number()))
            .prop_map(|(kind, major, minor)| Devices { kind, major, minor });
        let devices = prop_oneof![1 => Just(None), 8 => devices.prop_map(Some)];
        (any::<bool>(), devices, 1_u32..8).prop_map(|(allow, devices, access)| Rule {
            allow,
            devices,
            access,
        })
    }

    proptest! {
        #[test]
        fn the_program_answers_what_v1_would(
            rules in prop::collection::vec(rule(), 0..8),
            questions in prop::collection::vec((kind(), 1_u32..8, number(), number()), 40),
        ) {
            let rules = Rules::of(&rules);
            let program = generate(&rules);
            for (kind, access, major, minor) in questions {
                let word = match kind {
                    Kind::Block => BLOCK,
                    Kind::Char => CHAR,
                };
                let answer = run(&program, word, access, major, minor);
                prop_assert_eq!(answer, meaning(&rules, kind, access, major, minor));
            }
        }
    }

    #[test]
    fn access_must_be_covered_as_a_whole() {
        let null = Devices { kind: Kind::Char, major: Some(1), minor: Some(3) };
        let program = generate(&Rules { allow: false, exceptions: vec![(null, READ | MKNOD)] });
        assert!(run(&program, CHAR, READ, 1, 3));
        assert!(!run(&program, CHAR, READ | WRITE, 1, 3));
        assert!(!run(&program, BLOCK, READ, 1, 3));
        assert!(!run(&program, CHAR, READ, 1, 5));
    }
}
