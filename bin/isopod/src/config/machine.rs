//! What of a configuration does not fit this machine: names of groups, and files, that are not there.
//!
//! Always: only looks; every misfit is told. Callers: `isopod config check` and `isopod doctor`. The daemon finds the same when it
//! needs it.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cri_streaming::server::Tls;
use sys::ProjectQuotas;

use super::settings::{Config, Credential, HandlerKind};
use crate::daemon::socket_group;

/// All of them, a line each with the key.
pub fn misfits(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut tell = |key: &str, result: Result<(), String>| {
        if let Err(problem) = result {
            found.push(format!("{key}: {problem}"));
        }
    };
    if let Some(group) = &config.socket.group {
        tell("socket.group", socket_group(group).map(drop).map_err(|e| e.to_string()));
    }
    if let Some(profile) = &config.seccomp_profile {
        tell("pods.seccomp_profile", json(profile));
    }
    if let Some(policy) = &config.images.policy {
        tell("images.policy", json(policy));
    }
    for file in &config.images.auth_files {
        tell("images.auth_files", json(file));
    }
    for directory in &config.images.preloaded {
        tell("images.preloaded", here(directory, &directory.join("oci-layout")));
    }
    for (host, credential) in &config.images.credentials {
        if let Credential::PasswordFile { file, .. } = credential {
            tell(&format!("images.credentials.{host:?}.password_file"), here(file, file));
        }
    }
    let writable = config.containers.writable;
    for (key, limit) in [("size", writable.size), ("max", writable.max)] {
        if limit.is_some() {
            tell(&format!("pods.writable_{key}"), with_project_quotas(&config.root));
        }
    }
    if let Some((certificate, key)) = &config.streaming.tls {
        let read = Tls::from_files(certificate, key).map(drop);
        tell("streaming.certificate", read.map_err(|e| model::with_causes(&e)));
    }
    for (name, handler) in &config.handlers {
        if let HandlerKind::Oci { program, .. } = &handler.kind {
            tell(&format!("handlers.{name}.program"), executable(program));
        }
    }
    if let Some(program) = &config.monitor {
        tell("monitor.program", executable(program));
    }
    found
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Whether the file system of a directory, or of the nearest one above that is there, keeps projects to limits.
pub fn with_project_quotas(directory: &Path) -> Result<(), String> {
    let there = directory.ancestors().find(|one| one.is_dir()).unwrap_or(Path::new("/"));
    let known = std::fs::File::open(there).and_then(|file| sys::project_quotas(file.as_fd()));
    match known.map_err(|error| failed(there, &error))? {
        ProjectQuotas::Enforced => Ok(()),
        ProjectQuotas::Absent | ProjectQuotas::Counted => Err(format!(
            "{} has no project quotas: xfs mounted with prjquota has, and ext4 with the features quota and \
             project, mounted with prjquota",
            there.display()
        )),
    }
}

fn here(what: &Path, file: &Path) -> Result<(), String> {
    std::fs::metadata(file).map(drop).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound && what != file {
            let name = file.file_name().unwrap_or_default();
            return format!("{} has no {}", what.display(), name.display());
        }
        failed(file, &error)
    })
}

fn json(path: &Path) -> Result<(), String> {
    let text = std::fs::read(path).map_err(|error| failed(path, &error))?;
    let read = serde_json::from_slice::<serde_json::Value>(&text);
    // Where it is wrong, but nothing of what it says: it may hold secrets.
    read.map(drop).map_err(|error| format!("{}: line {} is no JSON", path.display(), error.line()))
}

fn executable(program: &Path) -> Result<(), String> {
    if !program.is_absolute() {
        // It is looked for in PATH when it is needed.
        return Ok(());
    }
    let found = std::fs::metadata(program).map_err(|error| failed(program, &error))?;
    if found.is_file() && found.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(format!("{} is no program", program.display()))
}

#[cfg(test)]
mod tests {
    use crate::config::{Flags, load};

    use super::*;

    #[test]
    fn everything_that_is_not_here_is_told_with_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        let policy = directory.path().join("policy.json");
        std::fs::write(&policy, "{\n secret,").unwrap();
        let text = format!(
            "root = \"/proc/no\"\nsocket.group = \"no-such-group\"\n\
             pods.seccomp_profile = \"/no/profile\"\npods.writable_max = \"1GiB\"\n\
             [images]\npolicy = \"{}\"\npreloaded = [\"{}\"]\n\
             [handlers.odd]\nkind = \"oci\"\nprogram = \"/etc\"\n\
             [handlers.fine]\nkind = \"oci\"\nprogram = \"/bin/sh\"\n",
            policy.display(),
            directory.path().display()
        );
        std::fs::write(&file, text).unwrap();
        let (config, _) = load(Some(&file), &Flags::default()).unwrap();
        let found = misfits(&config).join("\n");
        for wanted in [
            "socket.group: there is no group \"no-such-group\"",
            "pods.seccomp_profile: /no/profile: No such file",
            "pods.writable_max: /proc has no project quotas",
            "images.policy: ",
            "line 2 is no JSON",
            "images.preloaded: ",
            "has no oci-layout",
            "handlers.odd.program: /etc is no program",
        ] {
            assert!(found.contains(wanted), "{wanted} is not in:\n{found}");
        }
        assert!(!found.contains("secret,") && !found.contains("fine"), "{found}");
    }
}
