//! Who runs the container: the request, the image's configuration, and the image's passwd and group files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use model::{GroupsPolicy, RunAs, RunAsUser, User};

use crate::error::SpecError;

/// The largest id; above it, numbers have wrapped to 0 in other programs on their way.
const MAX_ID: u32 = i32::MAX as u32;

/// Who runs a container, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Ids. The primary group is among the groups.
    pub user: User,
    /// Home directory of the image's passwd, else `/`.
    pub home: PathBuf,
}

/// The groups that the request adds.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestedGroups<'a> {
    /// Named in the request, `fsGroup` among them.
    pub supplemental: &'a [u32],
    /// Whether the image's groups for the user count as well.
    pub policy: GroupsPolicy,
}

/// One line of passwd(5).
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Finds out who runs a container: what `run_as` says, else what `image_user` says (`user`, `uid`,
/// `user:group`, with either by name or number), else root. `passwd` and `group` are the image's files,
/// where it has them; lines that cannot be read are passed over.
///
/// A user by number need not be in passwd; then the group is 0. With [`GroupsPolicy::Merge`] the groups that
/// list the user in `group` are added, with [`GroupsPolicy::Strict`] only those of the request.
///
/// # Errors
/// Unknown names, numbers out of range, a group without a user.
pub fn resolve_user(
    run_as: &RunAs,
    image_user: &str,
    passwd: Option<&str>,
    group: Option<&str>,
    groups: RequestedGroups<'_>,
) -> Result<Identity, SpecError> {
    let passwd = passwd.unwrap_or("");
    let group_file = group.unwrap_or("");
    let (image_name, image_group) = match image_user.split_once(':') {
        Some((name, group)) => (name, group),
        None => (image_user, ""),
    };
    let (uid, account) = match &run_as.user {
        None if run_as.group.is_some() => return Err(SpecError::GroupWithoutUser),
        Some(RunAsUser::Id(uid)) => (checked(*uid)?, by_uid(passwd, *uid)),
        Some(RunAsUser::Name(name)) => by_name_or_number(passwd, name)?,
        None if image_name.is_empty() => (0, by_uid(passwd, 0)),
        None => by_name_or_number(passwd, image_name)?,
    };
    let own_gid = account.as_ref().map_or(0, |account| account.gid);
    let gid = match (run_as.group, &run_as.user) {
        (Some(gid), _) => checked(gid)?,
        (None, None) if !image_group.is_empty() => group_number(group_file, image_group)?,
        (None, _) => own_gid,
    };
    let mut all: BTreeSet<u32> = groups.supplemental.iter().copied().collect();
    for gid in &all {
        checked(*gid)?;
    }
    all.insert(gid);
    match groups.policy {
        GroupsPolicy::Strict => {}
        GroupsPolicy::Merge => {
            if let Some(account) = &account {
                all.extend(memberships(group_file, account.name));
            }
        }
    }
    let home = account.map_or("", |account| account.home);
    let home = if home.starts_with('/') { home } else { "/" };
    Ok(Identity {
        user: User { uid, gid, groups: all.into_iter().collect() },
        home: PathBuf::from(home),
    })
}

fn checked(id: u32) -> Result<u32, SpecError> {
    if id <= MAX_ID { Ok(id) } else { Err(SpecError::BadId { given: id.to_string() }) }
}

fn number(text: &str) -> Option<Result<u32, SpecError>> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let bad = || SpecError::BadId { given: text.chars().take(40).collect() };
    Some(text.parse().ok().filter(|id| *id <= MAX_ID).ok_or_else(bad))
}

fn by_name_or_number<'a>(
    passwd: &'a str,
    text: &str,
) -> Result<(u32, Option<Account<'a>>), SpecError> {
    // A name in passwd may look like a number; then it is the name.
    if let Some(account) = accounts(passwd).find(|account| account.name == text) {
        return Ok((account.uid, Some(account)));
    }
    match number(text) {
        Some(uid) => uid.map(|uid| (uid, by_uid(passwd, uid))),
        None => Err(SpecError::UnknownUser { name: text.to_owned() }),
    }
}

fn by_uid(passwd: &str, uid: u32) -> Option<Account<'_>> {
    accounts(passwd).find(|account| account.uid == uid)
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let id = |text: &str| text.parse().ok().filter(|id| *id <= MAX_ID);
        let uid = id(fields.nth(1)?)?;
        let gid = id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or("");
        Some(Account { name, uid, gid, home })
    })
}

/// Lines of group(5): name, number, members.
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok().filter(|id| *id <= MAX_ID)?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn group_number(group: &str, text: &str) -> Result<u32, SpecError> {
    if let Some((_, gid, _)) = group_lines(group).find(|(name, ..)| *name == text) {
        return Ok(gid);
    }
    number(text).unwrap_or_else(|| Err(SpecError::UnknownGroup { name: text.to_owned() }))
}

fn memberships<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    let lists = move |members: &str| members.split(',').any(|member| member.trim() == user);
    group_lines(group).filter(move |(.., members)| lists(members)).map(|(_, gid, _)| gid)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
broken line
u:x:1000:1000::/home/u:/bin/sh
42:x:7:8:::
big:x:4294967295:1::/:
";
    const GROUP: &str = "root:x:0:root\nwheel:x:10:root,u\nextra:x:50000:u\nother:x:60000:nobody\n";

    fn resolve(run_as: &RunAs, image: &str, policy: GroupsPolicy) -> Result<Identity, SpecError> {
        let groups = RequestedGroups { supplemental: &[4000], policy };
        resolve_user(run_as, image, Some(PASSWD), Some(GROUP), groups)
    }

    fn request(user: Option<RunAsUser>, group: Option<u32>) -> RunAs {
        RunAs { user, group }
    }

    #[test]
    fn the_request_wins_over_the_image_and_the_policy_decides_on_its_groups() {
        use GroupsPolicy::{Merge, Strict};
        use RunAsUser::{Id, Name};
        let name = |name: &str| Some(Name(name.to_owned()));
        for (user, group, image, policy, uid, gid, groups) in [
            (None, None, "", Merge, 0, 0, &[0, 10, 4000][..]),
            (None, None, "", Strict, 0, 0, &[0, 4000]),
            (None, None, "u", Merge, 1000, 1000, &[10, 1000, 4000, 50000]),
            (None, None, "1000", Merge, 1000, 1000, &[10, 1000, 4000, 50000]),
            (None, None, "1000", Strict, 1000, 1000, &[1000, 4000]),
            (None, None, "u:wheel", Merge, 1000, 10, &[10, 4000, 50000]),
            (None, None, "1000:77", Strict, 1000, 77, &[77, 4000]),
            (None, None, "5:77", Merge, 5, 77, &[77, 4000]),
            (None, None, "5", Merge, 5, 0, &[0, 4000]),
            (None, None, "42", Merge, 7, 8, &[8, 4000]),
            // The example of Kubernetes' documentation of supplementalGroupsPolicy.
            (Some(Id(1000)), Some(3000), "", Merge, 1000, 3000, &[10, 3000, 4000, 50000]),
            (Some(Id(1000)), Some(3000), "", Strict, 1000, 3000, &[3000, 4000]),
            (Some(Id(1000)), None, "root:wheel", Strict, 1000, 1000, &[1000, 4000]),
            (Some(Id(9)), None, "u:wheel", Merge, 9, 0, &[0, 4000]),
            (name("u"), None, "", Strict, 1000, 1000, &[1000, 4000]),
            (name("1000"), Some(5), "", Strict, 1000, 5, &[5, 4000]),
        ] {
            let case = format!("{user:?} {group:?} {image:?} {policy:?}");
            let identity = resolve(&request(user, group), image, policy).unwrap();
            let expected = User { uid, gid, groups: groups.to_vec() };
            assert_eq!(identity.user, expected, "{case}");
        }
    }

    #[test]
    fn the_home_is_the_images() {
        for (image, home) in [("u", "/home/u"), ("", "/root"), ("5", "/"), ("42", "/")] {
            let identity = resolve(&RunAs::default(), image, GroupsPolicy::Merge).unwrap();
            assert_eq!(identity.home, PathBuf::from(home));
        }
    }

    #[test]
    fn without_files_numbers_do_and_names_do_not() {
        let groups = RequestedGroups::default();
        let root = resolve_user(&RunAs::default(), "", None, None, groups).unwrap();
        assert_eq!(root.user, User { uid: 0, gid: 0, groups: vec![0] });
        assert_eq!(
            resolve_user(&RunAs::default(), "u", None, None, groups),
            Err(SpecError::UnknownUser { name: "u".to_owned() })
        );
    }

    #[test]
    fn what_no_process_can_be_is_refused() {
        use GroupsPolicy::Merge;
        let bad_id = |given: &str| SpecError::BadId { given: given.to_owned() };
        let none = RunAs::default();
        for (run_as, image, error) in [
            (none.clone(), "nobody", SpecError::UnknownUser { name: "nobody".to_owned() }),
            (none.clone(), "u:nogroup", SpecError::UnknownGroup { name: "nogroup".to_owned() }),
            (none.clone(), "4294967296", bad_id("4294967296")),
            (none.clone(), "2147483648", bad_id("2147483648")),
            (none, "0:4294967295", bad_id("4294967295")),
            (request(Some(RunAsUser::Id(u32::MAX)), None), "", bad_id("4294967295")),
            (request(None, Some(5)), "u", SpecError::GroupWithoutUser),
        ] {
            assert_eq!(resolve(&run_as, image, Merge), Err(error));
        }
    }

    proptest! {
        /// The files and the names come from an image, which nobody trusts.
        #[test]
        fn whatever_an_image_says_the_result_is_somebody(
            image_user in "[a-z0-9:]{0,12}",
            passwd in "([a-z0-9]{0,6}:){0,5}[a-z0-9:/\n]{0,40}",
            group in "([a-z0-9]{0,6}:){0,3}[a-z0-9:,\n]{0,40}",
            supplemental in prop::collection::vec(0_u32..5000, 0..4),
        ) {
            let groups = RequestedGroups { supplemental: &supplemental, policy: GroupsPolicy::Merge };
            let found = resolve_user(&RunAs::default(), &image_user, Some(&passwd), Some(&group), groups);
            if let Ok(Identity { user, home }) = found {
                prop_assert!(user.uid <= MAX_ID && user.gid <= MAX_ID);
                prop_assert!(user.groups.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(user.groups.contains(&user.gid));
                prop_assert!(supplemental.iter().all(|gid| user.groups.contains(gid)));
                prop_assert!(home.is_absolute());
            }
        }
    }
}
