//! What rules in a row mean (Documentation/admin-guide/cgroup-v1/devices.rst of the kernel).

use std::fmt;

use runtime_spec::DeviceCgroup;

use crate::error::CgroupError;

/// Making a node.
pub(crate) const MKNOD: u32 = 1;
/// Reading.
pub(crate) const READ: u32 = 2;
/// Writing.
pub(crate) const WRITE: u32 = 4;
pub(crate) const ALL: u32 = MKNOD | READ | WRITE;

/// Kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Block,
    Char,
}

/// Devices of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Devices {
    pub(crate) kind: Kind,
    /// All where `None`.
    pub(crate) major: Option<u32>,
    /// All where `None`.
    pub(crate) minor: Option<u32>,
}

/// A rule, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    /// Every device there is where `None`; what may be done with it does not count then.
    pub(crate) devices: Option<Devices>,
    pub(crate) access: u32,
}

impl Rule {
    pub(crate) fn read(index: usize, given: &DeviceCgroup) -> Result<Self, CgroupError> {
        let bad = |field: &str, problem: &str| CgroupError::BadLimit {
            what: format!("devices[{index}].{field}"),
            problem: problem.to_owned(),
        };
        // The specification says nothing of negative numbers; runc's specs have them for "all".
        let number = |field: &str, number: Option<i64>| match number {
            None | Some(..0) => Ok(None),
            Some(n) => u32::try_from(n).map(Some).map_err(|_| bad(field, "is no device number")),
        };
        let kind = match given.kind.as_str() {
            "" | "a" => None,
            "c" | "u" => Some(Kind::Char),
            "b" => Some(Kind::Block),
            _ => return Err(bad("type", "must be a, b or c")),
        };
        let (major, minor) = (number("major", given.major)?, number("minor", given.minor)?);
        if kind.is_none() && (major.is_some() || minor.is_some()) {
            return Err(bad("type", "must be b or c where a number is given"));
        }
        let mut access = 0;
        for letter in given.access.chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => return Err(bad("access", "must be of r, w and m")),
            };
        }
        if access == 0 {
            access = ALL;
        }
        if kind.is_none() && access != ALL {
            return Err(bad("access", "must be rwm for all devices"));
        }
        let devices = kind.map(|kind| Devices { kind, major, minor });
        Ok(Self { allow: given.allow, devices, access })
    }
}

/// As v1's files take it.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Devices { kind, major, minor }) = self.devices else { return f.write_str("a") };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = match kind {
            Kind::Block => 'b',
            Kind::Char => 'c',
        };
        write!(f, "{kind} {}:{} ", number(major), number(minor))?;
        for (bit, letter) in [(READ, "r"), (WRITE, "w"), (MKNOD, "m")] {
            if self.access & bit != 0 {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Rules in a row, worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What holds for a device that is no exception.
    pub(crate) allow: bool,
    /// Devices with what is allowed, or denied, of them.
    pub(crate) exceptions: Vec<(Devices, u32)>,
}

impl Rules {
    /// A cgroup without a rule allows all, as its parents do.
    pub(crate) fn of(rules: &[Rule]) -> Self {
        let mut all = Self { allow: true, exceptions: Vec::new() };
        for rule in rules {
            let Some(devices) = rule.devices else {
                all = Self { allow: rule.allow, exceptions: Vec::new() };
                continue;
            };
            let known = all.exceptions.iter().position(|(known, _)| *known == devices);
            match (rule.allow == all.allow, known) {
                // It takes back a part of an exception.
                (true, Some(at)) => {
                    all.exceptions[at].1 &= !rule.access;
                    if all.exceptions[at].1 == 0 {
                        all.exceptions.remove(at);
                    }
                }
                (true, None) => {}
                (false, Some(at)) => all.exceptions[at].1 |= rule.access,
                (false, None) => all.exceptions.push((devices, rule.access)),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> DeviceCgroup {
        let mut words = text.split(' ');
        let allow = words.next() == Some("allow");
        let kind = words.next().unwrap_or("").to_owned();
        let numbers = words.next().unwrap_or("*:*").split_once(':').unwrap();
        let access = words.next().unwrap_or("").to_owned();
        let number = |text: &str| text.parse().ok();
        DeviceCgroup { allow, kind, major: number(numbers.0), minor: number(numbers.1), access }
    }

    #[test]
    fn a_rule_is_printed_as_the_kernel_reads_it() {
        for (text, line) in [
            ("deny a *:* rwm", "a"),
            ("deny", "a"),
            ("allow c 1:3 rwm", "c 1:3 rwm"),
            ("allow b 8:* wr", "b 8:* rw"),
            ("allow c -1:-1 m", "c *:* m"),
            ("allow c 5:1", "c 5:1 rwm"),
        ] {
            assert_eq!(Rule::read(0, &given(text)).unwrap().to_string(), line);
        }
        for bad in [
            "allow x 1:3 r",
            "allow a 1:* rwm",
            "allow c 1:3 q",
            "allow a *:* r",
            "allow c 4294967296:0 r",
        ] {
            let error = Rule::read(4, &given(bad)).unwrap_err();
            assert!(error.to_string().starts_with("devices[4]."), "{error}");
        }
    }

    #[test]
    fn rules_in_a_row_are_exceptions_from_the_last_that_meant_all() {
        let rules = |texts: &[&str]| {
            let read: Vec<Rule> = texts.iter().map(|t| Rule::read(0, &given(t)).unwrap()).collect();
            Rules::of(&read)
        };
        let null = Devices { kind: Kind::Char, major: Some(1), minor: Some(3) };
        for (texts, allow, exceptions) in [
            (&["allow a"][..], true, vec![]),
            (&["allow c 1:3 r", "deny a"], false, vec![]),
            (&["deny a", "allow c 1:3 r", "allow c 1:3 w"], false, vec![(null, READ | WRITE)]),
            (&["deny a", "allow c 1:3 rw", "deny c 1:3 w"], false, vec![(null, READ)]),
            (&["deny a", "allow c 1:3 rw", "deny c 1:3"], false, vec![]),
            (&["allow a", "deny c 1:3 w"], true, vec![(null, WRITE)]),
            (&["deny a", "deny c 1:3 w"], false, vec![]),
        ] {
            assert_eq!(rules(texts), Rules { allow, exceptions }, "{texts:?}");
        }
    }
}
