//! Hosts that can be asked: what the configuration says, made ready for requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::Secret;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use crate::auth_file::{self, AuthFiles};
use crate::config::RegistryConfig;
use crate::credentials::{Credentials, NodeCredentials};
use crate::hosts_dir;
use crate::hosts_file::{Base, Capabilities, HostEntry};
use crate::tls::{TlsSettings, client_config};

/// How long certificates and credential files are used before they are read again, while the hosts stay
/// what they are.
const FRESH: Duration = Duration::from_secs(5);
/// How long a credential helper's answer is used before it is asked again.
const HELPED: Duration = Duration::from_secs(60);
/// The most registries, clients and hosts that are remembered; past it the memory starts anew.
const REMEMBERED: usize = 256;
/// How long a host of this machine has to show whether it speaks TLS.
const LOOPBACK_CONNECT: Duration = Duration::from_secs(5);
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Https,
    Http,
    /// A loopback address: TLS is tried, plain HTTP is fine.
    Either,
}

/// One host that stands for a registry.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// With the port where one is given.
    pub(crate) host: String,
    /// The path of the API, `/v2`.
    path: String,
    pub(crate) scheme: Scheme,
    pub(crate) capabilities: Capabilities,
    /// Whether it is the registry's own host and not a mirror.
    pub(crate) own: bool,
    /// The registry that a mirror is to act for (`ns`).
    namespace: Option<String>,
    /// Values are marked as sensitive, which hides them in Debug.
    pub(crate) headers: HeaderMap,
    pub(crate) client: reqwest::Client,
    pub(crate) permits: Permits,
    /// This node's own credentials, as far as they are for hosts of this registry.
    pub(crate) node: Arc<NodeCredentials>,
}

/// Permits of one host. They come back when what holds them is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Permits {
    pub(crate) downloads: Arc<Semaphore>,
    pub(crate) requests: Arc<Semaphore>,
}

impl Endpoint {
    /// The address of `rest` (`library/x/manifests/latest`) on this host.
    pub(crate) fn url(&self, plain: bool, rest: &str) -> Result<Url, String> {
        let scheme = if plain { "http" } else { "https" };
        let text = format!("{scheme}://{}{}/{rest}", self.host, self.path);
        let mut url = Url::parse(&text).map_err(|e| format!("{:?} is no host: {e}", self.host))?;
        if let Some(ns) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", ns);
        }
        Ok(url)
    }
}

impl Endpoint {
    /// Whether `url` is at this host itself, by the scheme that it is spoken to; `plain` where that is
    /// either and an answer came by plain HTTP. Credentials go nowhere else.
    pub(crate) fn is_at_home(&self, url: &Url, plain: bool) -> bool {
        let plain = match self.scheme {
            Scheme::Https => false,
            Scheme::Http => true,
            Scheme::Either => plain,
        };
        self.url(plain, "").is_ok_and(|own| own.origin() == url.origin())
    }
}

/// The hosts of a registry, in the order in which they are asked.
pub(crate) type Plan = Arc<[Arc<Endpoint>]>;

/// What each helper said of each server, and when.
type Helped = HashMap<(String, String), (Instant, Option<Credentials>)>;

/// What a registry's hosts were made of, and when.
#[derive(Debug)]
struct Planned {
    at: Instant,
    entries: Vec<HostEntry>,
    plan: Plan,
}

/// Makes endpoints from the configuration, and keeps what is costly to make.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    plans: Mutex<HashMap<String, Planned>>,
    clients: Mutex<HashMap<ClientKey, reqwest::Client>>,
    permits: Mutex<HashMap<String, Permits>>,
    helped: Mutex<Helped>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ClientKey {
    tls: TlsSettings,
    connect: Duration,
    loopback: bool,
}

impl Endpoints {
    /// The hosts for `registry`, in the order in which they are asked. Reads files: not for a task.
    ///
    /// # Errors
    /// What is wrong with the configuration, in words.
    pub(crate) fn of(&self, registry: &str, config: &RegistryConfig) -> Result<Plan, String> {
        // Whoever changes a file means the next request; a small file costs nothing beside that.
        let entries = hosts_dir::hosts_for(&config.hosts_dirs, registry)?;
        if let Some(known) = lock(&self.plans).get(registry)
            && known.at.elapsed() < FRESH
            && known.entries == entries
        {
            return Ok(Arc::clone(&known.plan));
        }
        let own = entries.len().saturating_sub(1);
        let node = Arc::new(self.node_credentials(registry, &entries, config)?);
        let mut all = Vec::with_capacity(entries.len());
        for (i, entry) in entries.iter().enumerate() {
            all.push(Arc::new(self.endpoint(registry, entry, (i == own, &node), config)?));
        }
        let plan: Plan = all.into();
        let planned = Planned { at: Instant::now(), entries, plan: Arc::clone(&plan) };
        insert(&self.plans, registry.to_owned(), planned);
        Ok(plan)
    }

    fn endpoint(
        &self,
        registry: &str,
        entry: &HostEntry,
        (own, node): (bool, &Arc<NodeCredentials>),
        config: &RegistryConfig,
    ) -> Result<Endpoint, String> {
        let placed = place(registry, entry);
        let tls = TlsSettings {
            ca: read_all(&entry.ca)?,
            client: read_pairs(&entry.client)?,
            skip_verify: entry.skip_verify.unwrap_or(placed.lenient),
        };
        let mut connect = entry.dial_timeout.unwrap_or(config.limits.connect);
        if placed.scheme == Scheme::Either {
            // A server that speaks no TLS may wait for the rest of what it takes for a line.
            connect = connect.min(LOOPBACK_CONNECT);
        }
        let key = ClientKey { tls, connect, loopback: is_loopback(&placed.base.host) };
        let host = placed.base.host;
        // Docker Hub is the same registry under both of its names.
        let same = host == registry || (registry == HUB && host == HUB_HOST);
        Ok(Endpoint {
            path: placed.base.path,
            scheme: placed.scheme,
            capabilities: placed.capabilities,
            own,
            namespace: (!same).then(|| registry.to_owned()),
            headers: header_map(&entry.headers).map_err(|e| format!("host {host:?}: {e}"))?,
            client: self.client(key).map_err(|e| format!("host {host:?}: {e}"))?,
            permits: self.permits_of(&host, config),
            node: Arc::clone(node),
            host,
        })
    }

    /// Who this node is: as files and helpers say, before them as its own configuration says.
    fn node_credentials(
        &self,
        registry: &str,
        entries: &[HostEntry],
        config: &RegistryConfig,
    ) -> Result<NodeCredentials, String> {
        let files = AuthFiles::read(&config.auth_files)?;
        let mut hosts = vec![registry];
        hosts.extend(entries.iter().filter_map(|e| e.base.as_ref()).map(|b| b.host.as_str()));
        let mut all = files.credentials.clone();
        for (helper, server) in files.questions(&hosts) {
            if let Some(found) = self.ask_helper(&helper, &server) {
                all.add(&server, found);
            }
        }
        all.extend(&config.credentials);
        Ok(all)
    }

    fn ask_helper(&self, helper: &str, server: &str) -> Option<Credentials> {
        let key = (helper.to_owned(), server.to_owned());
        if let Some((asked, known)) = lock(&self.helped).get(&key)
            && asked.elapsed() < HELPED
        {
            return known.clone();
        }
        // This is a thread that may block, of a runtime that goes on beside it.
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let found = runtime.block_on(auth_file::ask(helper, server));
        insert(&self.helped, key, (Instant::now(), found.clone()));
        found
    }

    fn client(&self, key: ClientKey) -> Result<reqwest::Client, String> {
        if let Some(client) = lock(&self.clients).get(&key) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(&key.tls)?)
            .user_agent(concat!("isopod/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed by hand: credentials must not go along.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // One connection for each layer is faster than many streams in one connection.
            .http1_only()
            .connect_timeout(key.connect)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(60));
        if key.loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| e.without_url().to_string())?;
        insert(&self.clients, key, client.clone());
        Ok(client)
    }

    fn permits_of(&self, host: &str, config: &RegistryConfig) -> Permits {
        if let Some(permits) = lock(&self.permits).get(host) {
            return permits.clone();
        }
        let permits = Permits {
            downloads: Arc::new(Semaphore::new(config.limits.downloads_per_host.max(1))),
            requests: Arc::new(Semaphore::new(config.limits.requests_per_host.max(1))),
        };
        insert(&self.permits, host.to_owned(), permits.clone());
        permits
    }
}

struct Placed {
    base: Base,
    scheme: Scheme,
    capabilities: Capabilities,
    /// Whether any certificate will do unless the configuration says otherwise.
    lenient: bool,
}

/// Where a host of the configuration is; the usual place of `registry` where it does not say.
fn place(registry: &str, entry: &HostEntry) -> Placed {
    if let Some(base) = &entry.base {
        let scheme = if base.plain { Scheme::Http } else { Scheme::Https };
        let capabilities = entry.capabilities;
        return Placed { base: base.clone(), scheme, capabilities, lenient: false };
    }
    let host = if registry == HUB { HUB_HOST } else { registry };
    let loopback = is_loopback(host);
    let scheme = match (loopback, port_of(host)) {
        (false, _) | (true, None | Some("443")) => Scheme::Https,
        (true, Some("80")) => Scheme::Http,
        (true, Some(_)) => Scheme::Either,
    };
    Placed {
        base: Base { plain: scheme == Scheme::Http, host: host.to_owned(), path: "/v2".to_owned() },
        scheme,
        capabilities: Capabilities::ALL,
        lenient: loopback,
    }
}

/// Whether `host` (with or without a port) is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|a| a.is_loopback())
}

fn port_of(host: &str) -> Option<&str> {
    host.rsplit_once(':').map(|(_, port)| port).filter(|p| !p.contains(']'))
}

fn read_all(files: &[std::path::PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    files.iter().map(|f| read(f)).collect()
}

type ClientPairs = Vec<(Vec<u8>, Secret<Vec<u8>>)>;

fn read_pairs(
    files: &[(std::path::PathBuf, Option<std::path::PathBuf>)],
) -> Result<ClientPairs, String> {
    let pair = |(cert, key): &(std::path::PathBuf, Option<std::path::PathBuf>)| {
        let key = key.as_ref().unwrap_or(cert);
        Ok((read(cert)?, Secret::new(read(key)?)))
    };
    files.iter().map(pair).collect()
}

fn read(file: &std::path::Path) -> Result<Vec<u8>, String> {
    hosts_dir::read(file).map_err(|e| format!("cannot read {}: {e}", file.display()))
}

fn header_map(headers: &[(String, Secret<String>)]) -> Result<HeaderMap, String> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let key = HeaderName::try_from(name.as_str())
            .map_err(|_| format!("header {name:?} is no name"))?;
        let mut value = HeaderValue::try_from(value.expose().as_str())
            .map_err(|_| format!("the value of header {name:?} cannot be sent"))?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing in here is half done between two statements, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn insert<K: std::hash::Hash + Eq, V>(map: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut map = lock(map);
    if map.len() >= REMEMBERED {
        map.clear();
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(registry: &str) -> Arc<[Arc<Endpoint>]> {
        Endpoints::default().of(registry, &RegistryConfig::default()).unwrap()
    }

    #[test]
    fn a_registry_without_configuration_has_its_usual_host() {
        for (registry, host, scheme) in [
            ("docker.io", "registry-1.docker.io", Scheme::Https),
            ("quay.io", "quay.io", Scheme::Https),
            ("10.0.0.1:5000", "10.0.0.1:5000", Scheme::Https),
            ("localhost", "localhost", Scheme::Https),
            ("localhost:443", "localhost:443", Scheme::Https),
            ("localhost:80", "localhost:80", Scheme::Http),
            ("localhost:5000", "localhost:5000", Scheme::Either),
            ("127.0.0.5:5000", "127.0.0.5:5000", Scheme::Either),
            ("[::1]:5000", "[::1]:5000", Scheme::Either),
            ("[::2]:5000", "[::2]:5000", Scheme::Https),
        ] {
            let all = plan(registry);
            let e = &all[0];
            assert_eq!((all.len(), e.host.as_str(), e.scheme, e.own), (1, host, scheme, true));
            let url = e.url(false, "a/manifests/b").unwrap();
            assert_eq!((url.path(), url.query()), ("/v2/a/manifests/b", None), "{registry}");
        }
    }

    #[test]
    fn a_host_is_at_home_at_its_own_origin_only() {
        let at = |text: &str| Url::parse(text).unwrap();
        for (registry, url, plain, home) in [
            ("quay.io", "https://quay.io/upload?x", false, true),
            ("quay.io", "https://quay.io:443/upload", true, true),
            ("quay.io", "http://quay.io/upload", true, false),
            ("quay.io", "https://quay.io.example/upload", false, false),
            ("quay.io", "https://quay.io:8443/upload", false, false),
            ("docker.io", "https://registry-1.docker.io/upload", false, true),
            ("localhost:80", "http://localhost/upload", false, true),
            ("localhost:80", "https://localhost:80/upload", false, false),
            ("localhost:5000", "http://localhost:5000/upload", true, true),
            ("localhost:5000", "http://localhost:5000/upload", false, false),
            ("localhost:5000", "https://localhost:5000/upload", false, true),
        ] {
            let all = plan(registry);
            assert_eq!(all[0].is_at_home(&at(url), plain), home, "{registry} {url}");
        }
    }

    #[test]
    fn a_mirror_is_told_which_registry_it_acts_for_and_keeps_its_path() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("docker.io")).unwrap();
        let text = "[host.'http://mirror:1/hub']\ncapabilities=['pull']\n[host.'http://mirror:1/hub'.header]\nx-a='s3cret'";
        std::fs::write(root.path().join("docker.io/hosts.toml"), text).unwrap();
        let hosts_dirs = vec![root.path().to_owned()];
        let config = RegistryConfig { hosts_dirs, ..RegistryConfig::default() };
        let all = Endpoints::default().of("docker.io", &config).unwrap();
        let url = all[0].url(true, "library/x/blobs/y").unwrap();
        assert_eq!(url.as_str(), "http://mirror:1/hub/v2/library/x/blobs/y?ns=docker.io");
        assert_eq!((all[0].own, all[0].capabilities.resolve), (false, false));
        assert!(!format!("{all:?}").contains("s3cret"));
        assert_eq!(all[1].host, "registry-1.docker.io");
    }
}
