//! `hosts.toml` as containerd reads it: which hosts stand for a registry, in which order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Secret;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Spanned, Value};

/// What one host may be asked for. Pushing is not done here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Content by its digest.
    pub(crate) pull: bool,
    /// What a tag means.
    pub(crate) resolve: bool,
}

impl Capabilities {
    pub(crate) const ALL: Self = Self { pull: true, resolve: true };
}

/// Scheme, host and path prefix of a registry's API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) plain: bool,
    /// With the port where one is given.
    pub(crate) host: String,
    /// Without a slash at its end: `/v2`.
    pub(crate) path: String,
}

/// One host's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostEntry {
    /// `None` in a file without `server`: the registry's usual host.
    pub(crate) base: Option<Base>,
    pub(crate) capabilities: Capabilities,
    pub(crate) ca: Vec<PathBuf>,
    /// Certificate, and key where it is in a file of its own.
    pub(crate) client: Vec<(PathBuf, Option<PathBuf>)>,
    pub(crate) skip_verify: Option<bool>,
    pub(crate) headers: Vec<(String, Secret<String>)>,
    pub(crate) dial_timeout: Option<Duration>,
}

impl HostEntry {
    /// The registry's usual host with usual settings.
    pub(crate) const fn usual() -> Self {
        Self {
            base: None,
            capabilities: Capabilities::ALL,
            ca: Vec::new(),
            client: Vec::new(),
            skip_verify: None,
            headers: Vec::new(),
            dial_timeout: None,
        }
    }
}

#[derive(Deserialize)]
struct RawRoot {
    server: Option<Spanned<String>>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, RawHost>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawHost {
    capabilities: Option<Spanned<Vec<String>>>,
    ca: Option<Spanned<Value>>,
    client: Option<Spanned<Value>>,
    skip_verify: Option<bool>,
    header: BTreeMap<String, Spanned<Value>>,
    override_path: bool,
    dial_timeout: Option<Spanned<String>>,
}

/// A mistake, and the byte of the file that it is at.
#[derive(Debug)]
struct Mistake {
    at: usize,
    words: String,
}

/// What `check` says of a value, with its place.
fn placed<T, U>(
    value: &Spanned<T>,
    check: impl FnOnce(&T) -> Result<U, String>,
) -> Result<U, Mistake> {
    check(value.get_ref()).map_err(|words| Mistake { at: value.span().start, words })
}

/// The hosts of a `hosts.toml`, in the order in which they are asked; the last is the registry's
/// own. Relative paths are below `directory`.
///
/// # Errors
/// The line, and what is wrong with it, in words. A file that is half understood would send requests to
/// the wrong host.
pub(crate) fn parse(text: &str, directory: &Path) -> Result<Vec<HostEntry>, String> {
    entries(text, directory).map_err(|Mistake { at, words }| {
        let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        format!("line {line}: {words}")
    })
}

fn entries(text: &str, directory: &Path) -> Result<Vec<HostEntry>, Mistake> {
    let root: RawRoot = read(text)?;
    let own: RawHost = read(text)?;
    // The order of the tables in the file is the order of the hosts.
    let mut mirrors: Vec<_> = root.host.into_iter().collect();
    mirrors.sort_by_key(|(name, _)| name.span().start);
    let mut all = Vec::with_capacity(mirrors.len() + 1);
    for (name, raw) in mirrors {
        if name.get_ref().is_empty() {
            let words = "a [host] table without a name".to_owned();
            return Err(Mistake { at: name.span().start, words });
        }
        let entry = host_entry(Some(&name), raw, directory);
        all.push(entry.map_err(|e| Mistake {
            words: format!("host {:?}: {}", name.get_ref(), e.words),
            ..e
        })?);
    }
    let server = root.server.filter(|s| !s.get_ref().is_empty());
    all.push(host_entry(server.as_ref(), own, directory)?);
    Ok(all)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Mistake> {
    toml::from_str(text).map_err(|e| Mistake {
        at: e.span().map_or(0, |span| span.start),
        words: e.message().to_owned(),
    })
}

fn host_entry(
    server: Option<&Spanned<String>>,
    raw: RawHost,
    directory: &Path,
) -> Result<HostEntry, Mistake> {
    let place = |s: &Spanned<String>| placed(s, |s| base(s, raw.override_path));
    let files =
        |ca: &Value| Ok(strings(ca, "ca")?.into_iter().map(|p| directory.join(p)).collect());
    let timeout = |text: &String| {
        let parsed = duration(text).filter(|d| !d.is_zero());
        parsed.ok_or_else(|| format!("dial_timeout {text:?} is not a duration"))
    };
    let capabilities = raw.capabilities.as_ref().map(|names| placed(names, |n| capabilities(n)));
    let ca = raw.ca.as_ref().map(|value| placed(value, files));
    let client = raw.client.as_ref().map(|value| placed(value, |v| client(v, directory)));
    Ok(HostEntry {
        base: server.map(place).transpose()?,
        capabilities: capabilities.transpose()?.unwrap_or(Capabilities::ALL),
        ca: ca.transpose()?.unwrap_or_default(),
        client: client.transpose()?.unwrap_or_default(),
        skip_verify: raw.skip_verify,
        headers: headers(&raw.header)?,
        dial_timeout: raw.dial_timeout.as_ref().map(|t| placed(t, timeout)).transpose()?,
    })
}

fn base(server: &str, override_path: bool) -> Result<Base, String> {
    let text = if server.contains("://") { server.to_owned() } else { format!("https://{server}") };
    let bad = || format!("server {server:?} is not an http or https address");
    let url = Url::parse(&text).map_err(|_| bad())?;
    let plain = match url.scheme() {
        "http" => true,
        "https" => false,
        _ => return Err(bad()),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "server {:?} has a password in it",
            url.host_str().unwrap_or_default()
        ));
    }
    let name = url.host_str().ok_or_else(bad)?;
    let host = url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
    let mut path = url.path().trim_end_matches('/').to_owned();
    if !override_path && !path.ends_with("/v2") {
        path.push_str("/v2");
    }
    Ok(Base { plain, host, path })
}

fn capabilities(names: &[String]) -> Result<Capabilities, String> {
    if names.is_empty() {
        return Ok(Capabilities::ALL);
    }
    let mut found = Capabilities { pull: false, resolve: false };
    for name in names {
        match name.to_ascii_lowercase().as_str() {
            "pull" => found.pull = true,
            "resolve" => found.resolve = true,
            "push" => {}
            _ => return Err(format!("the capability {name:?} is not known")),
        }
    }
    Ok(found)
}

/// One string, or a list of them.
fn strings(value: &Value, what: &str) -> Result<Vec<String>, String> {
    let bad = || format!("{what} is neither a string nor a list of strings");
    match value {
        Value::String(s) => Ok(vec![s.clone()]),
        Value::Array(all) => {
            all.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(bad)).collect()
        }
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Table(_) => Err(bad()),
    }
}

/// One file with certificate and key, a list of such files, or a list of pairs of files.
fn client(value: &Value, directory: &Path) -> Result<Vec<(PathBuf, Option<PathBuf>)>, String> {
    const BAD: &str = "client is neither a file, nor a list of files, nor a list of pairs of files";
    let Some(list) = value.as_array() else {
        let file = value.as_str().ok_or(BAD)?;
        return Ok(vec![(directory.join(file), None)]);
    };
    let mut all = Vec::with_capacity(list.len());
    for item in list {
        let files = strings(item, "client").map_err(|_| BAD)?;
        match files.as_slice() {
            [both] => all.push((directory.join(both), None)),
            [cert, key] if key.is_empty() => all.push((directory.join(cert), None)),
            [cert, key] => all.push((directory.join(cert), Some(directory.join(key)))),
            _ => return Err(BAD.into()),
        }
    }
    Ok(all)
}

fn headers(
    raw: &BTreeMap<String, Spanned<Value>>,
) -> Result<Vec<(String, Secret<String>)>, Mistake> {
    let mut all = Vec::new();
    for (name, value) in raw {
        for text in placed(value, |v| strings(v, &format!("header {name:?}")))? {
            all.push((name.clone(), Secret::new(text)));
        }
    }
    Ok(all)
}

/// A duration in Go's form: `1m30s`, `500ms`, `1.5h`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(0);
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

/// Whether `text` can be a `hosts.toml`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_hosts_file(text: &str) -> Result<(), String> {
    parse(text, Path::new("/")).map(drop)
}

#[cfg(test)]
#[path = "hosts_file_tests.rs"]
mod tests;
