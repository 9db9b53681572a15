//! Finding and reading a registry's directory: `hosts.toml`, or Docker's certificate files.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::hosts_file::{HostEntry, parse};

/// The largest file that is read here, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The hosts for `registry`, in the order in which they are asked, from the first directory that
/// knows it. Its usual host alone where none does.
///
/// # Errors
/// What is wrong with which file, in words.
pub(crate) fn hosts_for(roots: &[PathBuf], registry: &str) -> Result<Vec<HostEntry>, String> {
    let Some(directory) = directory_for(roots, registry)? else {
        return Ok(vec![HostEntry::usual()]);
    };
    let file = directory.join("hosts.toml");
    let text = match read(&file) {
        Ok(bytes) => {
            String::from_utf8(bytes).map_err(|_| format!("{} is not text", file.display()))?
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(format!("cannot read {}: {e}", file.display())),
    };
    if text.trim().is_empty() {
        return certificate_files(&directory);
    }
    parse(&text, &directory).map_err(|e| format!("{}: {e}", file.display()))
}

/// containerd's names: `host_port_` where colons are not wanted, then `host:port`, then `_default`.
fn directory_for(roots: &[PathBuf], registry: &str) -> Result<Option<PathBuf>, String> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':').filter(|(h, _)| !h.is_empty()) {
        names.push(format!("{host}_{port}_"));
    }
    names.extend([registry.to_owned(), "_default".to_owned()]);
    for path in roots.iter().flat_map(|root| names.iter().map(|n| root.join(n))) {
        match fs::metadata(&path) {
            Ok(m) if m.is_dir() => return Ok(Some(path)),
            Ok(_) => {}
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
        }
    }
    Ok(None)
}

/// Docker's layout: `*.crt` are authorities, `x.cert` with `x.key` is a client's pair.
fn certificate_files(directory: &Path) -> Result<Vec<HostEntry>, String> {
    let bad = |e: io::Error| format!("cannot read {}: {e}", directory.display());
    let mut host = HostEntry::usual();
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(bad)? {
        names.push(entry.map_err(bad)?.path());
    }
    names.sort();
    for path in names {
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => host.ca.push(path),
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(format!("{} has no key beside it", path.display()));
                }
                host.client.push((path, Some(key)));
            }
            Some(_) | None => {}
        }
    }
    Ok(vec![host])
}

/// The whole of a small file.
///
/// # Errors
/// The system's, and `FileTooLarge`.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_looked_for_by_containerds_names() {
        let root = tempfile::tempdir().unwrap();
        let second = tempfile::tempdir().unwrap();
        let roots = [root.path().to_owned(), second.path().to_owned()];
        let find = |r: &str| {
            let found = directory_for(&roots, r).unwrap();
            found.map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
        };
        assert_eq!(find("localhost:5000"), None);
        fs::create_dir(second.path().join("_default")).unwrap();
        assert_eq!(find("localhost:5000").as_deref(), Some("_default"));
        fs::create_dir(root.path().join("localhost:5000")).unwrap();
        assert_eq!(find("localhost:5000").as_deref(), Some("localhost:5000"));
        fs::create_dir(root.path().join("localhost_5000_")).unwrap();
        assert_eq!(find("localhost:5000").as_deref(), Some("localhost_5000_"));
        assert_eq!(find("quay.io").as_deref(), Some("_default"));
    }

    #[test]
    fn without_a_hosts_file_dockers_certificate_files_count() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("quay.io");
        fs::create_dir(&dir).unwrap();
        for name in ["ca.crt", "a.cert", "a.key", "readme.txt"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        let roots = [root.path().to_owned()];
        let hosts = hosts_for(&roots, "quay.io").unwrap();
        assert_eq!((hosts.len(), &hosts[0].base), (1, &None));
        assert_eq!(hosts[0].ca, [dir.join("ca.crt")]);
        assert_eq!(hosts[0].client, [(dir.join("a.cert"), Some(dir.join("a.key")))]);
        fs::remove_file(dir.join("a.key")).unwrap();
        assert!(hosts_for(&roots, "quay.io").unwrap_err().contains("a.cert"));
    }

    #[test]
    fn a_mistake_in_a_hosts_file_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("_default")).unwrap();
        fs::write(root.path().join("_default/hosts.toml"), "server = 5").unwrap();
        let e = hosts_for(&[root.path().to_owned()], "quay.io").unwrap_err();
        assert!(e.contains("_default/hosts.toml"), "{e}");
        assert_eq!(hosts_for(&[], "quay.io").unwrap(), [HostEntry::usual()]);
    }
}
