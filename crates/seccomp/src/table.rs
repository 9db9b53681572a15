//! Numbers of system calls by name. How the table is made is told in tables/generate.sh.

use std::sync::LazyLock;

use crate::arch::Arch;

/// Where ARM's private calls begin: they are numbered apart and never grow.
pub(crate) const ARM_PRIVATE: u32 = 0x000f_0000;

const COLUMNS: usize = 5;

struct Row {
    name: &'static str,
    numbers: [Option<u32>; COLUMNS],
}

/// Sorted by name.
static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| parse(include_str!("../tables/syscalls.tsv")));

fn parse(text: &'static str) -> Vec<Row> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect()
}

fn row(line: &'static str) -> Option<Row> {
    let mut fields = line.split('\t');
    let name = fields.next()?;
    let mut numbers = [None; COLUMNS];
    for number in &mut numbers {
        *number = fields.next()?.parse().ok();
    }
    Some(Row { name, numbers })
}

const fn column(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 0,
        Arch::X86 => 1,
        Arch::X32 => 2,
        Arch::Aarch64 => 3,
        Arch::Arm => 4,
    }
}

/// The number of `name`; `None` for one that the architecture does not have or nobody knows. Without the
/// bit that marks x32.
pub(crate) fn number(arch: Arch, name: &str) -> Option<u32> {
    let at = TABLE.binary_search_by(|row| row.name.cmp(name)).ok()?;
    TABLE[at].numbers[column(arch)]
}

/// All names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_and_the_names_are_sorted() {
        let lines = include_str!("../tables/syscalls.tsv").lines().filter(|l| !l.starts_with('#'));
        assert_eq!(TABLE.len(), lines.count());
        assert!(TABLE.len() > 450);
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(
            TABLE.iter().all(|row| row.numbers.iter().any(Option::is_some)),
            "a call of nobody"
        );
    }

    #[test]
    fn numbers_are_the_kernels() {
        for (arch, name, expected) in [
            (Arch::X86_64, "read", Some(0)),
            (Arch::X86_64, "openat2", Some(437)),
            (Arch::X86, "read", Some(3)),
            (Arch::X86, "socketcall", Some(102)),
            (Arch::X32, "rt_sigaction", Some(512)),
            (Arch::Aarch64, "read", Some(63)),
            (Arch::Aarch64, "open", None),
            (Arch::Arm, "set_tls", Some(ARM_PRIVATE + 5)),
            (Arch::X86_64, "no_such_call", None),
        ] {
            assert_eq!(number(arch, name), expected, "{arch:?} {name}");
        }
    }
}
