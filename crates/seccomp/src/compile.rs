//! From rules to a program: a search tree over the numbers of each architecture.

use std::collections::BTreeMap;

use runtime_spec::Seccomp;

use crate::arch::Arch;
use crate::bpf::{Jump, Label, MAX_INSTRUCTIONS, Program, Target};
use crate::error::BadProfile;
use crate::rules::{Compare, Condition, Decision, NO_SUCH_CALL, Rules, WRONG_ARCHITECTURE, Width};
use crate::table::ARM_PRIVATE;

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What marks a number as x32's.
const X32_BIT: u32 = 0x4000_0000;
/// What a tracer makes a number that it wants to be passed over.
const PASSED_OVER: u32 = u32::MAX;

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
/// An argument of which the kernel takes 32 bits is compared in those, whatever its register has above.
///
/// Of rules for one call the first whose conditions hold decides, and one without conditions alone. Names
/// that the tables do not know are passed over. Numbers above all that the profile names answer ENOSYS,
/// unless it lets pass what it does not name. A call of an architecture that is not meant ends the process.
///
/// # Errors
/// Words that are not known, actions that are not supported, too many rules.
pub fn compile(profile: &Seccomp, host: Arch) -> Result<CompiledFilter, BadProfile> {
    let flags = flags(profile)?;
    let rules = Rules::read(profile, host)?;
    let mut program = Program::default();
    let mut entries: Vec<(Arch, Label)> = Vec::new();
    for (arch, decisions) in &rules.arches {
        if *arch != Arch::X32 {
            let x32 = rules.arches.iter().find(|(a, _)| *a == Arch::X32 && *arch == Arch::X86_64);
            let entry = section(&mut program, &rules, *arch, decisions, x32.map(|(_, d)| d));
            entries.push((*arch, entry));
        }
    }
    let mut next = Target::Return(WRONG_ARCHITECTURE);
    for (arch, entry) in entries.iter().rev() {
        next = Target::At(program.jump(Jump::Equal, arch.audit(), Target::At(*entry), next));
    }
    program.straight(next);
    program.load(ARCH);
    let instructions = program.len();
    if instructions > MAX_INSTRUCTIONS {
        return Err(BadProfile::TooManyInstructions { instructions, limit: MAX_INSTRUCTIONS });
    }
    Ok(CompiledFilter { program: program.to_bytes(), flags })
}

fn flags(profile: &Seccomp) -> Result<u32, BadProfile> {
    let field = || "flags".to_owned();
    profile.flags.iter().try_fold(0, |all, flag| match flag.as_str() {
        // The filter is installed by a process that has one thread, so there is none to synchronise with.
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(all),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(all | 1 << 1),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(all | 1 << 2),
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
            Err(BadProfile::Unsupported { field: field(), what: flag.clone() })
        }
        other => {
            Err(BadProfile::Unknown { field: field(), given: other.chars().take(80).collect() })
        }
    })
}

/// All of one architecture word.
fn section(
    program: &mut Program,
    rules: &Rules,
    arch: Arch,
    decisions: &BTreeMap<u32, Decision>,
    x32: Option<&BTreeMap<u32, Decision>>,
) -> Label {
    let beyond = if rules.hides_new_calls() { NO_SUCH_CALL } else { rules.default };
    let mut segments = segments(decisions, arch, 0, rules.default, beyond);
    if arch == Arch::X86_64 {
        segments.retain(|segment| segment.first < X32_BIT);
        match x32 {
            Some(decisions) => {
                segments.extend(self::segments(decisions, arch, X32_BIT, rules.default, beyond));
            }
            None => {
                let wrong = Leaf::Answer(WRONG_ARCHITECTURE);
                segments.push(Segment { first: X32_BIT, leaf: wrong });
                segments.push(Segment { first: PASSED_OVER, leaf: Leaf::Answer(beyond) });
            }
        }
    }
    let root = tree(program, &merged(segments), arch);
    program.straight(root);
    program.load(NUMBER)
}

/// What a run of numbers is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf<'a> {
    Answer(u32),
    Rules(&'a Decision),
}

/// From this number up to the next segment's.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    first: u32,
    leaf: Leaf<'a>,
}

fn segments<'a>(
    decisions: &'a BTreeMap<u32, Decision>,
    arch: Arch,
    base: u32,
    default: u32,
    beyond: u32,
) -> Vec<Segment<'a>> {
    let is_private = |number: u32| arch == Arch::Arm && number >= ARM_PRIVATE;
    let newest = decisions.keys().copied().filter(|n| !is_private(*n)).max();
    // What a gap is answered that begins here.
    let gap = |from: u32| match newest {
        Some(newest) if from <= newest => default,
        Some(_) | None => beyond,
    };
    let mut all = vec![Segment { first: base, leaf: Leaf::Answer(gap(0)) }];
    for (number, decision) in decisions {
        let leaf = match decision.rules.as_slice() {
            [] => Leaf::Answer(decision.otherwise),
            _ => Leaf::Rules(decision),
        };
        all.push(Segment { first: base + number, leaf });
        all.push(Segment { first: base + number + 1, leaf: Leaf::Answer(gap(number + 1)) });
    }
    all
}

/// Without segments that are empty, or that go on with the answer of the one before.
fn merged(segments: Vec<Segment<'_>>) -> Vec<Segment<'_>> {
    let mut all: Vec<Segment<'_>> = Vec::with_capacity(segments.len());
    for segment in segments {
        if all.last().is_some_and(|last| last.first == segment.first) {
            all.pop();
        }
        if all.last().is_none_or(|last| last.leaf != segment.leaf) {
            all.push(segment);
        }
    }
    all
}

/// The search tree; the number is in the accumulator.
fn tree(program: &mut Program, segments: &[Segment<'_>], arch: Arch) -> Target {
    match segments {
        [] => Target::Return(WRONG_ARCHITECTURE),
        [Segment { leaf: Leaf::Answer(answer), .. }] => Target::Return(*answer),
        [Segment { leaf: Leaf::Rules(decision), .. }] => conditional(program, decision, arch),
        _ => {
            let (low, high) = segments.split_at(segments.len() / 2);
            let first = high[0].first;
            let above = tree(program, high, arch);
            let below = tree(program, low, arch);
            Target::At(program.jump(Jump::GreaterOrEqual, first, above, below))
        }
    }
}

fn conditional(program: &mut Program, decision: &Decision, arch: Arch) -> Target {
    let mut next = Target::Return(decision.otherwise);
    for (conditions, answer) in decision.rules.iter().rev() {
        let mut then = Target::Return(*answer);
        for condition in conditions.iter().rev() {
            then = check(program, condition, arch, then, next);
        }
        next = then;
    }
    next
}

/// Whether the upper half of a condition's argument counts.
const fn has_upper_half(condition: &Condition, arch: Arch) -> bool {
    arch.is_64_bit() && matches!(condition.width, Width::Register)
}

/// Goes on with `yes` if the condition holds. The accumulator is lost.
fn check(
    program: &mut Program,
    condition: &Condition,
    arch: Arch,
    yes: Target,
    no: Target,
) -> Target {
    let offset = ARGUMENTS + 8 * condition.argument;
    let (low, high) = halves(condition.value);
    let (how, yes, no) = match condition.compare {
        Compare::Masked(mask) => return masked(program, condition, mask, arch, yes, no),
        Compare::Equal => (Jump::Equal, yes, no),
        Compare::NotEqual => (Jump::Equal, no, yes),
        Compare::GreaterOrEqual => (Jump::GreaterOrEqual, yes, no),
        Compare::Less => (Jump::GreaterOrEqual, no, yes),
        Compare::Greater => (Jump::Greater, yes, no),
        Compare::LessOrEqual => (Jump::Greater, no, yes),
    };
    program.jump(how, low, yes, no);
    let low_half = program.load(offset);
    if !has_upper_half(condition, arch) {
        return Target::At(low_half);
    }
    // The halves are words in the host's byte order, which is little-endian on all of these.
    let equal = Target::At(low_half);
    match how {
        Jump::Equal => program.jump(Jump::Equal, high, equal, no),
        Jump::Greater | Jump::GreaterOrEqual => {
            let same = program.jump(Jump::Equal, high, equal, no);
            program.jump(Jump::Greater, high, yes, Target::At(same))
        }
    };
    Target::At(program.load(offset + 4))
}

fn masked(
    program: &mut Program,
    condition: &Condition,
    mask: u64,
    arch: Arch,
    yes: Target,
    no: Target,
) -> Target {
    let offset = ARGUMENTS + 8 * condition.argument;
    let ((low, high), (mask_low, mask_high)) = (halves(condition.value), halves(mask));
    program.jump(Jump::Equal, low, yes, no);
    program.and(mask_low);
    let low_half = Target::At(program.load(offset));
    if !has_upper_half(condition, arch) {
        return low_half;
    }
    match (mask_high, high) {
        (0, 0) => low_half,
        // Bits are asked for that the mask takes away: it never holds.
        (0, _) => no,
        _ => {
            program.jump(Jump::Equal, high, low_half, no);
            program.and(mask_high);
            Target::At(program.load(offset + 4))
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a half is what is wanted")]
const fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

#[cfg(test)]
mod tests;
