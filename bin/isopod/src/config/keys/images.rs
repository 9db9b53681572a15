//! Keys of images and registries.

use super::super::kind::Kind::{Choice, MaybePath, Paths, Secret, Size, Text, Texts, Time, Whole};
use super::{Key, key, live};

pub(super) const KEYS: &[Key] = &[
    key(
        "images.registries",
        MaybePath,
        r#""/etc/isopod/certs.d""#,
        "Directory with one directory for each registry host, with its `hosts.toml`, as containerd reads it.",
    ),
    key(
        "images.parallel_layers",
        Whole(1, 64),
        "6",
        "How many layers are fetched and unpacked at once, over all pulls; more wait.",
    ),
    key(
        "images.stall",
        Time,
        r#""60s""#,
        "A connection that gives no byte for this long is given up, and another one is tried.",
    ),
    key(
        "images.min_rate",
        Size,
        "128",
        "Or one that gives fewer bytes in a second than this, over that time.",
    ),
    key("images.deadline", Time, r#""0s""#, "The longest time for one pull; 0s for none."),
    key(
        "images.keep_unused",
        Time,
        r#""1h""#,
        "How long layers that no image has are kept for a pull that comes back.",
    ),
    key(
        "images.keep_partial",
        Time,
        r#""24h""#,
        "How long the beginning of a layer that broke off is kept for a pull that goes on; 0s keeps none.",
    ),
    key(
        "images.keep_blobs",
        Choice(&["no", "yes"]),
        r#""no""#,
        "Whether compressed layers are kept beside the unpacked ones: twice the space, for `push` and repair.",
    ),
    key(
        "images.preloaded",
        Paths,
        "[]",
        "OCI layout directories that are looked into before any registry; they are only read.",
    ),
    key(
        "images.unqualified",
        Texts,
        "[]",
        "Registries that a name without one is looked up in, in this order; `docker.io` where empty.",
    ),
    key(
        "images.policy",
        MaybePath,
        r#""""#,
        "File in the form of containers-policy.json that says what may be pulled; empty for everything.",
    ),
    key(
        "images.auth_files",
        Paths,
        "[]",
        "Files like Docker's `config.json` with credentials and credential helpers; read anew at pulls.",
    ),
    key("images.max_layer", Size, r#""256GiB""#, "The most that one unpacked layer may hold."),
    live(
        "images.pinned",
        Texts,
        "[]",
        "Images that are never removed to gain space: references, in which `*` stands for any text.",
    ),
    key(
        "images.credentials.*.username",
        Text,
        r#""""#,
        "User for this registry host, where a pull brings no credentials of its own.",
    ),
    key("images.credentials.*.password", Secret, r#""""#, "Password for it."),
    key(
        "images.credentials.*.password_file",
        MaybePath,
        r#""""#,
        "File that holds the password instead.",
    ),
    key(
        "images.credentials.*.identity_token",
        Secret,
        r#""""#,
        "Identity token instead of user and password.",
    ),
    key(
        "images.credentials.*.registry_token",
        Secret,
        r#""""#,
        "Bearer token that is sent as it is, instead of all the others.",
    ),
];
