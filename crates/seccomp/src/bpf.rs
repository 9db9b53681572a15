//! Classic BPF, written from its end to its beginning.
//!
//! All jumps of a filter go forward. So the last instruction is written first, and whatever jumps somewhere
//! knows how far that is. Conditional jumps reach 255 instructions; beyond that they go by way of an
//! unconditional one. Owns: encoding and distances. Always: a program that ends here is one that the kernel
//! takes, if it is not too long.

use std::collections::HashMap;

/// The most instructions that the kernel takes (BPF_MAXINSNS).
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

const LD_W_ABS: u16 = 0x20;
const AND_K: u16 = 0x54;
const JA: u16 = 0x05;
const RET_K: u16 = 0x06;

/// Comparisons of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jump {
    /// Equal.
    Equal,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
}

impl Jump {
    const fn code(self) -> u16 {
        match self {
            Self::Equal => 0x15,
            Self::Greater => 0x25,
            Self::GreaterOrEqual => 0x35,
        }
    }
}

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The end, with this answer to the kernel.
    Return(u32),
    /// What is written already.
    At(Label),
}

/// An instruction, as the number of those behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Label(usize);

#[derive(Debug, Clone, Copy)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    k: u32,
}

/// A program that grows at its beginning.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// Where each answer was written last.
    returns: HashMap<u32, Label>,
}

impl Program {
    /// How many instructions there are.
    pub(crate) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// Loads the word at `offset` of the call's data, then goes on with what was written last.
    pub(crate) fn load(&mut self, offset: u32) -> Label {
        self.push(LD_W_ABS, 0, 0, offset)
    }

    /// Keeps the bits of `mask`, then goes on with what was written last.
    pub(crate) fn and(&mut self, mask: u32) -> Label {
        self.push(AND_K, 0, 0, mask)
    }

    /// Compares, and goes on with one or the other.
    pub(crate) fn jump(&mut self, how: Jump, k: u32, yes: Target, no: Target) -> Label {
        // What is put in between moves the other one away, so it gets room for that beforehand.
        let no = self.within_reach(no, 2);
        let yes = self.within_reach(yes, 1);
        let next = self.len();
        let (yes, no) = (offset(next, yes), offset(next, no));
        self.push(how.code(), yes, no, k)
    }

    /// A place from which to get to `target`, written last: for what runs straight on.
    pub(crate) fn straight(&mut self, target: Target) -> Label {
        match target {
            Target::Return(answer) => self.answer(answer),
            Target::At(label) if label.0 + 1 == self.len() => label,
            Target::At(label) => self.leap(label),
        }
    }

    /// The program as `struct sock_filter[]`.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * 8);
        for Instruction { code, if_true, if_false, k } in self.reversed.iter().rev() {
            bytes.extend(code.to_ne_bytes());
            bytes.extend([*if_true, *if_false]);
            bytes.extend(k.to_ne_bytes());
        }
        bytes
    }

    /// A label of `target` that a conditional jump reaches which is written after at most `more` others.
    fn within_reach(&mut self, target: Target, more: usize) -> Label {
        let near = |program: &Self, label: Label| program.len() + more - (label.0 + 1) <= 255;
        match target {
            Target::Return(answer) => match self.returns.get(&answer).copied() {
                Some(label) if near(self, label) => label,
                Some(_) | None => self.answer(answer),
            },
            Target::At(label) if near(self, label) => label,
            Target::At(label) => self.leap(label),
        }
    }

    fn answer(&mut self, answer: u32) -> Label {
        let label = self.push(RET_K, 0, 0, answer);
        self.returns.insert(answer, label);
        label
    }

    fn leap(&mut self, label: Label) -> Label {
        let distance = self.len() - (label.0 + 1);
        // More than the kernel takes is refused in the end, so it always fits.
        self.push(JA, 0, 0, u32::try_from(distance).unwrap_or(u32::MAX))
    }

    fn push(&mut self, code: u16, if_true: u8, if_false: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, if_true, if_false, k });
        Label(self.reversed.len() - 1)
    }
}

/// The distance to `target` from an instruction that is written when there are `len`.
fn offset(len: usize, target: Label) -> u8 {
    u8::try_from(len - (target.0 + 1)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a program ends whose loads all find `value`.
    fn run(bytes: &[u8], value: u32) -> u32 {
        crate::interpret::run(bytes, |_| value)
    }

    #[test]
    fn a_jump_gets_to_its_target_however_far_it_is() {
        for between in [0, 1, 250, 252, 253, 254, 255, 256, 257, 300, 600] {
            let mut program = Program::default();
            let far = program.straight(Target::Return(7));
            let other = program.straight(Target::Return(8));
            for _ in 0..between {
                program.and(u32::MAX);
            }
            program.jump(Jump::Equal, 1, Target::At(far), Target::At(other));
            program.load(0);
            let bytes = program.to_bytes();
            assert_eq!(run(&bytes, 1), 7, "{between}");
            assert_eq!(run(&bytes, 2), 8, "{between}");
        }
    }

    #[test]
    fn an_answer_that_is_near_is_used_again() {
        let mut program = Program::default();
        for k in 0..100 {
            program.jump(Jump::Equal, k, Target::Return(1), Target::Return(2));
        }
        assert_eq!(program.len(), 102);
    }
}
