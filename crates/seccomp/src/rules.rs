//! A profile in numbers: what each system call of each architecture is answered.

use std::collections::BTreeMap;

use runtime_spec::{Seccomp, SeccompArg};

use crate::arch::Arch;
use crate::error::BadProfile;
use crate::table;

const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
/// The largest errno that the kernel gives on (MAX_ERRNO).
const MAX_ERRNO: u32 = 4095;
/// Arguments that a system call has.
const ARGUMENTS: u32 = 6;

/// What a number beyond everything that a profile names is answered: as if the kernel had no such call.
pub(crate) const NO_SUCH_CALL: u32 = ERRNO | ENOSYS;

// SECCOMP_RET_* (seccomp(2)).
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

/// What a call of an architecture that the profile does not name is answered.
pub(crate) const WRONG_ARCHITECTURE: u32 = KILL_PROCESS;

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equal in the bits of this mask.
    Masked(u64),
}

/// How many bits of an argument count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// As many as a register has.
    Register,
    /// 32: the kernel looks at no more.
    Word,
}

/// A condition on an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) argument: u32,
    pub(crate) width: Width,
    pub(crate) compare: Compare,
    pub(crate) value: u64,
}

/// Arguments that the kernel takes as 32 bits of a register, whatever else is in it, of calls that profiles
/// say something of: `SYSCALL_DEFINE` has them as `int` or `unsigned int`. Compared as a whole, a bit above
/// would turn a number that is refused into one that is not.
const WORDS: [(&str, &[u32]); 10] = [
    ("bpf", &[0]),
    ("fcntl", &[1]),
    ("ioctl", &[1]),
    ("keyctl", &[0]),
    ("personality", &[0]),
    ("prctl", &[0]),
    ("setsockopt", &[1, 2]),
    ("socket", &[0, 1, 2]),
    ("socketcall", &[0]),
    ("socketpair", &[0, 1, 2]),
];

fn width(name: &str, argument: u32) -> Width {
    let is_word = WORDS.iter().any(|(call, words)| *call == name && words.contains(&argument));
    if is_word { Width::Word } else { Width::Register }
}

/// What one system call is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The first whose conditions all hold decides.
    pub(crate) rules: Vec<(Vec<Condition>, u32)>,
    /// What is answered if none does.
    pub(crate) otherwise: u32,
}

/// A profile for one machine.
#[derive(Debug)]
pub(crate) struct Rules {
    /// For calls that no rule names.
    pub(crate) default: u32,
    /// Each architecture that may make calls, the machine's own first, with the calls that rules name.
    pub(crate) arches: Vec<(Arch, BTreeMap<u32, Decision>)>,
}

impl Rules {
    /// Whether calls beyond all that the profile names are answered as if they were not there. A profile
    /// that lets pass what it does not name means those too.
    pub(crate) const fn hides_new_calls(&self) -> bool {
        !matches!(self.default & 0xffff_0000, ALLOW | LOG | TRACE)
    }

    pub(crate) fn read(profile: &Seccomp, host: Arch) -> Result<Self, BadProfile> {
        let default = action("defaultAction", &profile.default_action, profile.default_errno_ret)?;
        let mut arches = Vec::new();
        for arch in arches_of(profile, host) {
            arches.push((arch, decisions(profile, arch, default)?));
        }
        Ok(Self { default, arches })
    }
}

/// Those of the machine's family that the profile names, all of them if it names none. The machine's own is
/// always there: nothing could run without it.
fn arches_of(profile: &Seccomp, host: Arch) -> Vec<Arch> {
    let named = |arch: &Arch| {
        *arch == host
            || profile.architectures.is_empty()
            || profile.architectures.iter().any(|name| name == arch.name())
    };
    host.family().iter().copied().filter(named).collect()
}

fn decisions(
    profile: &Seccomp,
    arch: Arch,
    default: u32,
) -> Result<BTreeMap<u32, Decision>, BadProfile> {
    let mut all: BTreeMap<u32, Decision> = BTreeMap::new();
    // A rule without conditions decides alone, whatever others say of its call.
    let mut decided = BTreeMap::new();
    for (index, rule) in profile.syscalls.iter().enumerate() {
        let field = |name: &str| format!("syscalls[{index}].{name}");
        let answer = action(&field("action"), &rule.action, rule.errno_ret)?;
        let alternatives = conditions(&field("args"), &rule.args)?;
        // It would say again what is the case anyway.
        if answer == default {
            continue;
        }
        for name in &rule.names {
            let Some(number) = table::number(arch, name) else { continue };
            let decision = all
                .entry(number)
                .or_insert_with(|| Decision { rules: Vec::new(), otherwise: default });
            if alternatives.is_empty() {
                decided.entry(number).or_insert(answer);
            }
            let with_width = |c: &Condition| Condition { width: width(name, c.argument), ..*c };
            let of_call = |all_of: &Vec<Condition>| all_of.iter().map(with_width).collect();
            decision.rules.extend(alternatives.iter().map(|all_of| (of_call(all_of), answer)));
        }
    }
    for (number, answer) in decided {
        all.insert(number, Decision { rules: Vec::new(), otherwise: answer });
    }
    Ok(all)
}

/// The alternatives that a rule's conditions are. Several on one argument make each condition of the rule an
/// alternative of its own; runc and crun read them so, and profiles are written for that.
fn conditions(field: &str, args: &[SeccompArg]) -> Result<Vec<Vec<Condition>>, BadProfile> {
    let all: Vec<Condition> =
        args.iter().map(|arg| condition(field, arg)).collect::<Result<_, _>>()?;
    let repeated =
        all.iter().enumerate().any(|(i, c)| all[..i].iter().any(|o| o.argument == c.argument));
    Ok(match all.len() {
        0 => Vec::new(),
        _ if repeated => all.into_iter().map(|one| vec![one]).collect(),
        _ => vec![all],
    })
}

fn condition(field: &str, arg: &SeccompArg) -> Result<Condition, BadProfile> {
    if arg.index >= ARGUMENTS {
        let problem = format!("there is no argument {}", arg.index);
        return Err(BadProfile::Bad { field: format!("{field}.index"), problem });
    }
    let (compare, value) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (Compare::NotEqual, arg.value),
        "SCMP_CMP_LT" => (Compare::Less, arg.value),
        "SCMP_CMP_LE" => (Compare::LessOrEqual, arg.value),
        "SCMP_CMP_EQ" => (Compare::Equal, arg.value),
        "SCMP_CMP_GE" => (Compare::GreaterOrEqual, arg.value),
        "SCMP_CMP_GT" => (Compare::Greater, arg.value),
        "SCMP_CMP_MASKED_EQ" => (Compare::Masked(arg.value), arg.value_two),
        other => return Err(unknown(&format!("{field}.op"), other)),
    };
    Ok(Condition { argument: arg.index, width: Width::Register, compare, value })
}

fn action(field: &str, name: &str, errno: Option<u32>) -> Result<u32, BadProfile> {
    let with_errno = |kind: u32| match errno.unwrap_or(EPERM) {
        errno @ 0..=MAX_ERRNO => Ok(kind | errno),
        errno => {
            let problem = format!("errno {errno} is above {MAX_ERRNO}");
            Err(BadProfile::Bad { field: field.to_owned(), problem })
        }
    };
    match name {
        "SCMP_ACT_ALLOW" => Ok(ALLOW),
        "SCMP_ACT_ERRNO" => with_errno(ERRNO),
        "SCMP_ACT_TRACE" => with_errno(TRACE),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(KILL_THREAD),
        "SCMP_ACT_KILL_PROCESS" => Ok(KILL_PROCESS),
        "SCMP_ACT_TRAP" => Ok(TRAP),
        "SCMP_ACT_LOG" => Ok(LOG),
        "SCMP_ACT_NOTIFY" => {
            Err(BadProfile::Unsupported { field: field.to_owned(), what: name.to_owned() })
        }
        other => Err(unknown(field, other)),
    }
}

fn unknown(field: &str, given: &str) -> BadProfile {
    BadProfile::Unknown { field: field.to_owned(), given: given.chars().take(80).collect() }
}
