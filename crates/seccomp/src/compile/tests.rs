use proptest::prelude::*;
use runtime_spec::{SeccompArg, SeccompSyscall};

use super::*;
use crate::{interpret, table};

fn rule(names: &[&str], action: &str, errno: Option<u32>, args: Vec<SeccompArg>) -> SeccompSyscall {
    SeccompSyscall {
        names: names.iter().map(ToString::to_string).collect(),
        action: action.to_owned(),
        errno_ret: errno,
        args,
    }
}

fn arg(index: u32, op: &str, value: u64, value_two: u64) -> SeccompArg {
    SeccompArg { index, value, value_two, op: op.to_owned() }
}

fn profile(default: &str, syscalls: Vec<SeccompSyscall>) -> Seccomp {
    Seccomp { default_action: default.to_owned(), syscalls, ..Seccomp::default() }
}

fn run(filter: &CompiledFilter, arch: Arch, number: u32, args: [u64; 6]) -> u32 {
    let number = if arch == Arch::X32 { number | X32_BIT } else { number };
    interpret::run(&filter.program, interpret::data(arch.audit(), number, args))
}

// The rest of this file says once more what a profile means, as simply as possible and with nothing of the
// compiler's: that is what its programs are compared with.

fn meaning_of_action(action: &str, errno: Option<u32>) -> u32 {
    let errno = errno.unwrap_or(1);
    match action {
        "SCMP_ACT_ALLOW" => 0x7fff_0000,
        "SCMP_ACT_LOG" => 0x7ffc_0000,
        "SCMP_ACT_TRACE" => 0x7ff0_0000 + errno,
        "SCMP_ACT_ERRNO" => 0x0005_0000 + errno,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
        other => panic!("{other}"),
    }
}

/// Whether the kernel looks at 32 bits of an argument and no more, of calls that are said something of here.
fn is_word(arch: Arch, number: u32, argument: u32) -> bool {
    let is = |name: &str| table::number(arch, name) == Some(number);
    match argument {
        0 => ["bpf", "keyctl", "personality", "prctl", "socket", "socketcall", "socketpair"]
            .into_iter()
            .any(is),
        1 => ["fcntl", "ioctl", "setsockopt", "socket", "socketpair"].into_iter().any(is),
        2 => ["setsockopt", "socket", "socketpair"].into_iter().any(is),
        _ => false,
    }
}

fn holds(condition: &SeccompArg, args: [u64; 6], is_wide: bool) -> bool {
    let cut = |value: u64| if is_wide { value } else { value & 0xffff_ffff };
    let given = cut(args[condition.index as usize]);
    let value = cut(condition.value);
    match condition.op.as_str() {
        "SCMP_CMP_NE" => given != value,
        "SCMP_CMP_LT" => given < value,
        "SCMP_CMP_LE" => given <= value,
        "SCMP_CMP_EQ" => given == value,
        "SCMP_CMP_GE" => given >= value,
        "SCMP_CMP_GT" => given > value,
        "SCMP_CMP_MASKED_EQ" => given & value == cut(condition.value_two),
        other => panic!("{other}"),
    }
}

fn meaning(profile: &Seccomp, arch: Arch, number: u32, args: [u64; 6]) -> u32 {
    let default = meaning_of_action(&profile.default_action, profile.default_errno_ret);
    let is_64_bit = !matches!(arch, Arch::X86 | Arch::Arm);
    let mut first = None;
    let mut alone = None;
    let mut newest = None;
    for rule in &profile.syscalls {
        let action = meaning_of_action(&rule.action, rule.errno_ret);
        let numbers: Vec<u32> =
            rule.names.iter().filter_map(|name| table::number(arch, name)).collect();
        if action == default {
            continue;
        }
        newest = numbers.iter().copied().filter(|n| *n < 0xf0000).chain(newest).max();
        if !numbers.contains(&number) {
            continue;
        }
        if rule.args.is_empty() {
            alone = alone.or(Some(action));
            continue;
        }
        let mut indexes: Vec<u32> = rule.args.iter().map(|arg| arg.index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let is_met =
            |arg: &SeccompArg| holds(arg, args, is_64_bit && !is_word(arch, number, arg.index));
        let applies = if indexes.len() < rule.args.len() {
            rule.args.iter().any(is_met)
        } else {
            rule.args.iter().all(is_met)
        };
        if applies {
            first = first.or(Some(action));
        }
    }
    let lets_pass = matches!(default >> 16, 0x7fff | 0x7ffc | 0x7ff0);
    let unnamed = match newest {
        _ if lets_pass => default,
        Some(newest) if number <= newest => default,
        _ => 0x0005_0026,
    };
    // A call that only rules name whose action is the default's is not unnamed.
    alone.or(first).unwrap_or(if is_named(profile, arch, number, default) {
        default
    } else {
        unnamed
    })
}

fn is_named(profile: &Seccomp, arch: Arch, number: u32, default: u32) -> bool {
    profile.syscalls.iter().any(|rule| {
        meaning_of_action(&rule.action, rule.errno_ret) != default
            && rule.names.iter().any(|name| table::number(arch, name) == Some(number))
    })
}

const ACTIONS: [&str; 7] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_LOG",
];
const COMPARISONS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// Values around which comparisons change their answer.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..4,
        Just(0xffff_ffff),
        Just(0x1_0000_0000),
        Just(0x1_0000_0001),
        Just(0xffff_ffff_0000_0000),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

fn random_rule() -> impl Strategy<Value = SeccompSyscall> {
    let names: Vec<&'static str> = table::names().collect();
    let arg = (0_u32..6, prop::sample::select(&COMPARISONS[..]), value(), value())
        .prop_map(|(index, op, value, two)| arg(index, op, value, two));
    let args = prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(arg, 1..4)];
    let names = prop::collection::vec(prop::sample::select(names), 1..40);
    let errno = prop::option::of(0_u32..200);
    (names, prop::sample::select(&ACTIONS[..]), errno, args)
        .prop_map(|(names, action, errno, args)| rule(&names, action, errno, args))
}

fn random_profile() -> impl Strategy<Value = Seccomp> {
    let rules = prop::collection::vec(random_rule(), 0..8);
    (prop::sample::select(&ACTIONS[..]), rules).prop_map(|(default, rules)| profile(default, rules))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_program_answers_what_its_profile_means(
        profile in random_profile(),
        host in prop::sample::select(&[Arch::X86_64, Arch::Aarch64][..]),
        calls in prop::collection::vec((any::<prop::sample::Index>(), prop::array::uniform6(value()), any::<u32>()), 60),
    ) {
        let filter = compile(&profile, host).unwrap();
        let named: Vec<&String> = profile.syscalls.iter().flat_map(|rule| &rule.names).collect();
        for arch in host.family() {
            for (which, args, other) in &calls {
                // Mostly a call that a rule names, else any number; bit 30 would make x86_64's to x32's.
                let number = (!named.is_empty())
                    .then(|| table::number(*arch, which.get(named.as_slice()).as_str()))
                    .flatten()
                    .unwrap_or(other % 600);
                let expected = meaning(&profile, *arch, number, *args);
                prop_assert_eq!(run(&filter, *arch, number, *args), expected, "{:?} {}", arch, number);
            }
        }
    }
}

#[test]
fn numbers_above_all_that_are_named_answer_enosys() {
    let filter = compile(
        &profile(
            "SCMP_ACT_ERRNO",
            vec![rule(&["read", "openat2"], "SCMP_ACT_ALLOW", None, vec![])],
        ),
        Arch::X86_64,
    )
    .unwrap();
    for (number, expected) in [
        (0, 0x7fff_0000),
        (1, 0x0005_0001),
        (436, 0x0005_0001),
        (437, 0x7fff_0000),
        (438, NO_SUCH_CALL),
        (0x3fff_ffff, NO_SUCH_CALL),
    ] {
        assert_eq!(run(&filter, Arch::X86_64, number, [0; 6]), expected, "{number}");
    }
    let lenient = compile(
        &profile("SCMP_ACT_ALLOW", vec![rule(&["read"], "SCMP_ACT_ERRNO", None, vec![])]),
        Arch::X86_64,
    )
    .unwrap();
    assert_eq!(run(&lenient, Arch::X86_64, 10_000, [0; 6]), 0x7fff_0000);
}

#[test]
fn an_architecture_that_is_not_meant_ends_the_process() {
    let mut only = profile("SCMP_ACT_ALLOW", Vec::new());
    only.architectures = vec!["SCMP_ARCH_X86_64".to_owned()];
    let filter = compile(&only, Arch::X86_64).unwrap();
    assert_eq!(run(&filter, Arch::X86_64, 5, [0; 6]), 0x7fff_0000);
    for foreign in [Arch::X86, Arch::X32, Arch::Aarch64] {
        assert_eq!(run(&filter, foreign, 5, [0; 6]), WRONG_ARCHITECTURE, "{foreign:?}");
    }
    // What a tracer makes a number that it wants passed over is no call of x32.
    assert_eq!(run(&filter, Arch::X86_64, u32::MAX, [0; 6]), 0x7fff_0000);
    let all = compile(&profile("SCMP_ACT_ALLOW", Vec::new()), Arch::X86_64).unwrap();
    for own in [Arch::X86_64, Arch::X86, Arch::X32] {
        assert_eq!(run(&all, own, 5, [0; 6]), 0x7fff_0000, "{own:?}");
    }
    // A profile that names other machines only is for this one all the same.
    only.architectures = vec!["SCMP_ARCH_S390X".to_owned()];
    assert_eq!(run(&compile(&only, Arch::X86_64).unwrap(), Arch::X86_64, 5, [0; 6]), 0x7fff_0000);
}

#[test]
fn arms_private_calls_are_not_newer_than_all_others() {
    let rules = vec![rule(&["read", "set_tls"], "SCMP_ACT_ALLOW", None, vec![])];
    let filter = compile(&profile("SCMP_ACT_ERRNO", rules), Arch::Aarch64).unwrap();
    for (number, expected) in
        [(3, 0x7fff_0000), (4, NO_SUCH_CALL), (0xf_0005, 0x7fff_0000), (0xf_0002, NO_SUCH_CALL)]
    {
        assert_eq!(run(&filter, Arch::Arm, number, [0; 6]), expected, "{number:#x}");
    }
}

#[test]
fn a_rule_without_conditions_decides_alone_and_unknown_names_are_passed_over() {
    let rules = vec![
        rule(&["socket"], "SCMP_ACT_KILL_PROCESS", None, vec![arg(0, "SCMP_CMP_EQ", 1, 0)]),
        rule(&["socket", "no_such_call"], "SCMP_ACT_ALLOW", None, vec![]),
        rule(&["socket"], "SCMP_ACT_TRAP", None, vec![]),
    ];
    let filter = compile(&profile("SCMP_ACT_ERRNO", rules), Arch::X86_64).unwrap();
    assert_eq!(run(&filter, Arch::X86_64, 41, [1, 0, 0, 0, 0, 0]), 0x7fff_0000);
}

#[test]
fn what_cannot_be_compiled_is_named() {
    let allow = |names: &[&str], args| rule(names, "SCMP_ACT_ALLOW", None, args);
    let flagged = |flag: &str| Seccomp {
        flags: vec![flag.to_owned()],
        ..profile("SCMP_ACT_ALLOW", Vec::new())
    };
    for (bad, word) in [
        (profile("SCMP_ACT_NOPE", vec![]), "defaultAction"),
        (profile("SCMP_ACT_NOTIFY", vec![]), "SCMP_ACT_NOTIFY"),
        (profile("SCMP_ACT_KILL", vec![rule(&["read"], "x", None, vec![])]), "syscalls[0].action"),
        (
            profile("SCMP_ACT_KILL", vec![rule(&["read"], "SCMP_ACT_ERRNO", Some(5000), vec![])]),
            "5000",
        ),
        (
            profile("SCMP_ACT_KILL", vec![allow(&["read"], vec![arg(6, "SCMP_CMP_EQ", 0, 0)])]),
            "args.index",
        ),
        (profile("SCMP_ACT_KILL", vec![allow(&["read"], vec![arg(0, "==", 0, 0)])]), "args.op"),
        (flagged("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"), "flags"),
        (flagged("X"), "flags"),
    ] {
        let error = compile(&bad, Arch::X86_64).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    let many = |n: u64| {
        (0..n).map(|v| allow(&["read"], vec![arg(0, "SCMP_CMP_EQ", v << 20, 0)])).collect()
    };
    assert!(compile(&profile("SCMP_ACT_KILL", many(300)), Arch::X86_64).is_ok());
    let error = compile(&profile("SCMP_ACT_KILL", many(3000)), Arch::X86_64).unwrap_err();
    assert!(matches!(error, BadProfile::TooManyInstructions { .. }));
}

#[test]
fn flags_come_out_as_the_kernels_bits_and_into_the_file_first() {
    let mut with_flags = profile("SCMP_ACT_ALLOW", Vec::new());
    with_flags.flags =
        ["TSYNC", "LOG", "SPEC_ALLOW"].map(|name| format!("SECCOMP_FILTER_FLAG_{name}")).to_vec();
    let filter = compile(&with_flags, Arch::X86_64).unwrap();
    assert_eq!(filter.flags, 6);
    let file = filter.to_file();
    assert_eq!(file[..4], [6, 0, 0, 0]);
    assert_eq!(file[4..], filter.program);
}
