//! The kernel's side of a filter, for tests: runs a program of the few instructions that filters may have.

/// What the program answers when `load` is asked for the words of the call's data. Panics where the kernel
/// would have refused the program.
pub(crate) fn run(program: &[u8], load: impl Fn(u32) -> u32) -> u32 {
    count(program, load).0
}

/// The answer, and how many instructions it took.
pub(crate) fn count(program: &[u8], load: impl Fn(u32) -> u32) -> (u32, usize) {
    let (mut at, mut a, mut steps) = (0_usize, 0_u32, 0);
    loop {
        let bytes: [u8; 8] = program[at * 8..at * 8 + 8].try_into().unwrap();
        let [c0, c1, jt, jf, k @ ..] = bytes;
        let k = u32::from_ne_bytes(k);
        steps += 1;
        at += 1;
        let taken = |yes: bool| usize::from(if yes { jt } else { jf });
        match u16::from_ne_bytes([c0, c1]) {
            0x20 => {
                assert!(k < 64 && k.is_multiple_of(4), "load at {k}");
                a = load(k);
            }
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += taken(a == k),
            0x25 => at += taken(a > k),
            0x35 => at += taken(a >= k),
            0x06 => return (k, steps),
            code => panic!("instruction {code:#x}"),
        }
    }
}

/// The words of the data of a call.
pub(crate) fn data(arch: u32, number: u32, args: [u64; 6]) -> impl Fn(u32) -> u32 {
    move |offset| match offset {
        0 => number,
        4 => arch,
        8 | 12 => 0,
        _ => {
            let at = offset - 16;
            let arg = args[(at / 8) as usize];
            let high = at % 8 == 4;
            u32::try_from(if high { arg >> 32 } else { arg & 0xffff_ffff }).unwrap()
        }
    }
}
