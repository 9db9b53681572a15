//! The configuration as the daemon uses it.
//!
//! Owns: the rules between keys. Always: a [`Config`] has been checked as a whole; nothing downstream
//! finds a mistake in it that a look at it alone can find.
//! Callers: `load`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use model::{HandlerName, Secret};

use super::entries::Entries;
use super::mistake::{Mistake, Mistakes};
use super::streaming::{self, StreamingSettings};

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory for images.
    pub root: PathBuf,
    /// Directory for records of pods.
    pub state: PathBuf,
    /// The socket.
    pub socket: SocketSettings,
    /// The daemon's own log.
    pub log: LogSettings,
    /// The monitor's program, where it is not the usual one.
    pub monitor: Option<PathBuf>,
    /// Who makes cgroups.
    pub cgroup: CgroupChoice,
    /// The cgroup of pods that ask for none.
    pub cgroup_parent: Option<String>,
    /// Images.
    pub images: ImageSettings,
    /// The network.
    pub network: NetworkChoice,
    /// Where network namespaces are pinned.
    pub netns_dir: PathBuf,
    /// How many namespaces are made ahead of time.
    pub ready_namespaces: usize,
    /// Handlers by name; the empty name is there, too.
    pub handlers: BTreeMap<HandlerName, HandlerSettings>,
    /// Size of a pod's /dev/shm.
    pub shm_size: u64,
    /// Kernel parameters of every pod.
    pub sysctls: BTreeMap<String, String>,
    /// Default resource limits: name without `RLIMIT_`, soft, hard.
    pub ulimits: Vec<Ulimit>,
    /// Seccomp profile in place of the built-in one.
    pub seccomp_profile: Option<PathBuf>,
    /// Bytes a container may log in a second.
    pub log_rate: Option<u64>,
    /// Bytes a container may log in all.
    pub log_total: Option<u64>,
    /// Streams of exec, attach and port-forward.
    pub streaming: StreamingSettings,
    /// How long phases may take.
    pub deadlines: Deadlines,
}

/// The socket that the CRI is served on.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// Where.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Its group, by name or number.
    pub group: Option<String>,
}

/// How the daemon's own log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object in a line.
    Json,
}

/// The daemon's own log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Its form.
    pub format: LogFormat,
    /// The lowest level that is written.
    pub level: String,
    /// When a call is slow.
    pub slow_call: Duration,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupChoice {
    /// Whoever fits this machine.
    Auto,
    /// systemd.
    Systemd,
    /// The daemon.
    Cgroupfs,
}

/// Images.
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// Directory of `hosts.toml` files.
    pub registries: Option<PathBuf>,
    /// Pulls at once.
    pub parallel_pulls: usize,
    /// Layers of a pull at once.
    pub parallel_layers: usize,
    /// When a connection is given up.
    pub stall: Duration,
    /// The longest time of a pull.
    pub deadline: Option<Duration>,
    /// How long unused layers stay.
    pub keep_unused: Duration,
    /// The most of one layer.
    pub max_layer: u64,
    /// Images that stay.
    pub pinned: Vec<String>,
    /// By host.
    pub credentials: BTreeMap<String, Credential>,
}

/// What a registry host wants to see.
#[derive(Debug, Clone)]
pub enum Credential {
    /// User and password.
    Password {
        /// User.
        user: String,
        /// Password.
        password: Secret<String>,
    },
    /// User, and a file with the password.
    PasswordFile {
        /// User.
        user: String,
        /// The file.
        file: PathBuf,
    },
    /// An identity token.
    IdentityToken(Secret<String>),
    /// A registry token.
    RegistryToken(Secret<String>),
}

/// Which kind of network.
#[derive(Debug, Clone)]
pub enum NetworkChoice {
    /// Plugins.
    Cni(CniSettings),
    /// The built-in bridge.
    Bridge {
        /// Its name.
        name: String,
        /// IPv4 range.
        ipv4: Option<Ipv4Net>,
        /// IPv6 range.
        ipv6: Option<Ipv6Net>,
        /// MTU.
        mtu: Option<u32>,
    },
    /// Loopback only.
    None,
}

/// CNI.
#[derive(Debug, Clone)]
pub struct CniSettings {
    /// Configuration files.
    pub config_dir: PathBuf,
    /// Plugins.
    pub plugin_dirs: Vec<PathBuf>,
    /// Networks of a pod; 0 for all.
    pub max_networks: usize,
    /// Template of a configuration file.
    pub template: Option<PathBuf>,
    /// The longest time of one plugin.
    pub plugin_timeout: Duration,
    /// Plugins at once.
    pub plugins_at_once: usize,
}

/// A runtime handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerSettings {
    /// What launches its containers.
    pub kind: HandlerKind,
    /// CNI configuration of its own.
    pub cni_config_dir: Option<PathBuf>,
    /// Whether a privileged container gets only the devices that it asks for.
    pub privileged_without_host_devices: bool,
}

/// What launches the containers of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerKind {
    /// The built-in launcher.
    Own,
    /// An OCI runtime.
    Oci {
        /// Its program.
        program: PathBuf,
        /// Its options.
        options: Vec<String>,
    },
}

/// A resource limit (getrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Name as the OCI runtime specification has it, `RLIMIT_NOFILE`.
    pub kind: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// How long phases may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Networks.
    pub network: Duration,
    /// The monitor.
    pub monitor: Duration,
    /// Root file systems.
    pub rootfs: Duration,
    /// Setting a container up.
    pub create: Duration,
    /// Starting it.
    pub start: Duration,
    /// Killing.
    pub kill: Duration,
    /// Taking up one pod.
    pub recover: Duration,
}

/// Names of resource limits that the OCI runtime specification knows.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// The configuration that `entries` say.
pub fn config(entries: &Entries) -> Result<Config, Mistakes> {
    let mut reader = Reader { entries, mistakes: Vec::new() };
    let state = reader.path(&["state"]);
    let config = Config {
        root: reader.path(&["root"]),
        socket: SocketSettings {
            path: entries.path(&["socket", "path"]).unwrap_or_else(|| state.join("isopod.sock")),
            mode: u32::try_from(entries.whole(&["socket", "mode"])).unwrap_or(0o660),
            group: Some(entries.text(&["socket", "group"])).filter(|group| !group.is_empty()),
        },
        log: LogSettings {
            format: match entries.text(&["log", "format"]).as_str() {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
            level: entries.text(&["log", "level"]),
            slow_call: entries.time(&["log", "slow_call"]),
        },
        monitor: entries.path(&["monitor", "program"]),
        cgroup: match entries.text(&["cgroup", "driver"]).as_str() {
            "systemd" => CgroupChoice::Systemd,
            "cgroupfs" => CgroupChoice::Cgroupfs,
            _ => CgroupChoice::Auto,
        },
        cgroup_parent: Some(entries.text(&["cgroup", "parent"])).filter(|text| !text.is_empty()),
        images: reader.images(),
        network: reader.network(),
        netns_dir: reader.path(&["network", "netns_dir"]),
        ready_namespaces: reader.count(&["network", "ready_namespaces"]),
        handlers: reader.handlers(),
        shm_size: entries.whole(&["pods", "shm_size"]),
        sysctls: reader.sysctls(),
        ulimits: reader.ulimits(),
        seccomp_profile: entries.path(&["pods", "seccomp_profile"]),
        log_rate: Some(entries.whole(&["pods", "log_rate"])).filter(|rate| *rate > 0),
        log_total: Some(entries.whole(&["pods", "log_total"])).filter(|total| *total > 0),
        streaming: streaming::settings(&mut reader),
        deadlines: Deadlines {
            network: reader.bound("network"),
            monitor: reader.bound("monitor"),
            rootfs: reader.bound("rootfs"),
            create: reader.bound("create"),
            start: reader.bound("start"),
            kill: reader.bound("kill"),
            recover: reader.bound("recover"),
        },
        state,
    };
    if config.root == config.state {
        reader.mistake(&["state"], "`root` and `state` are the same directory".to_owned());
    }
    Mistakes::or(reader.mistakes, config)
}

/// Reads entries, and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) entries: &'a Entries,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    pub(super) fn mistake(&mut self, path: &[&str], problem: String) {
        self.mistakes.push(Mistake { origin: self.entries.origin(path), problem });
    }

    fn path(&self, path: &[&str]) -> PathBuf {
        PathBuf::from(self.entries.text(path))
    }

    pub(super) fn count(&self, path: &[&str]) -> usize {
        usize::try_from(self.entries.whole(path)).unwrap_or(usize::MAX)
    }

    /// A text of a type of its own; nothing where it is empty.
    pub(super) fn parsed<T: std::str::FromStr>(
        &mut self,
        path: &[&str],
        expected: &str,
    ) -> Option<T> {
        let text = self.entries.text(path);
        if text.is_empty() {
            return None;
        }
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.mistake(path, format!("`{}` is {text:?}: {expected} is needed", path.join(".")));
        }
        parsed
    }

    fn bound(&mut self, name: &str) -> Duration {
        let time = self.entries.time(&["deadlines", name]);
        if time.is_zero() {
            let problem = format!("`deadlines.{name}` is 0: nothing could ever succeed");
            self.mistake(&["deadlines", name], problem);
        }
        time
    }

    fn images(&mut self) -> ImageSettings {
        let deadline = self.entries.time(&["images", "deadline"]);
        ImageSettings {
            registries: self.entries.path(&["images", "registries"]),
            parallel_pulls: self.count(&["images", "parallel_pulls"]),
            parallel_layers: self.count(&["images", "parallel_layers"]),
            stall: self.entries.time(&["images", "stall"]),
            deadline: Some(deadline).filter(|time| !time.is_zero()),
            keep_unused: self.entries.time(&["images", "keep_unused"]),
            max_layer: self.entries.whole(&["images", "max_layer"]),
            pinned: self.entries.texts(&["images", "pinned"]),
            credentials: self.credentials(),
        }
    }

    fn credentials(&mut self) -> BTreeMap<String, Credential> {
        let mut all = BTreeMap::new();
        for host in self.entries.names("images.credentials") {
            let at = |key: &'static str| ["images", "credentials", host.as_str(), key];
            let user = self.entries.text(&at("username"));
            let given = [
                self.entries
                    .secret(&at("password"))
                    .map(|password| Credential::Password { user: user.clone(), password }),
                self.entries
                    .path(&at("password_file"))
                    .map(|file| Credential::PasswordFile { user: user.clone(), file }),
                self.entries.secret(&at("identity_token")).map(Credential::IdentityToken),
                self.entries.secret(&at("registry_token")).map(Credential::RegistryToken),
            ];
            let mut given: Vec<Credential> = given.into_iter().flatten().collect();
            match (given.pop(), given.is_empty()) {
                (Some(one), true) => {
                    all.insert(host, one);
                }
                (Some(_) | None, _) => {
                    let problem = format!(
                        "credentials of {host} need exactly one of password, password_file, \
                         identity_token and registry_token"
                    );
                    let origin = self.entries.origin(&at("username"));
                    self.mistakes.push(Mistake { origin, problem });
                }
            }
        }
        all
    }

    fn network(&mut self) -> NetworkChoice {
        match self.entries.text(&["network", "mode"]).as_str() {
            "none" => NetworkChoice::None,
            "bridge" => self.bridge(),
            _ => NetworkChoice::Cni(CniSettings {
                config_dir: self.path(&["network", "cni", "config_dir"]),
                plugin_dirs: self
                    .entries
                    .texts(&["network", "cni", "plugin_dirs"])
                    .into_iter()
                    .map(PathBuf::from)
                    .collect(),
                max_networks: self.count(&["network", "cni", "max_networks"]),
                template: self.entries.path(&["network", "cni", "template"]),
                plugin_timeout: self.entries.time(&["network", "cni", "plugin_timeout"]),
                plugins_at_once: self.count(&["network", "cni", "plugins_at_once"]),
            }),
        }
    }

    fn bridge(&mut self) -> NetworkChoice {
        let name = self.entries.text(&["network", "bridge", "name"]);
        let ok = (1..=15).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !ok {
            let problem = format!(
                "`network.bridge.name` is {name:?}: 1 to 15 letters, digits, '-', '_', '.' are needed"
            );
            self.mistake(&["network", "bridge", "name"], problem);
        }
        let ipv4 = self.parsed(&["network", "bridge", "ipv4"], "a range such as \"10.88.0.0/16\"");
        let ipv6 = self.parsed(&["network", "bridge", "ipv6"], "a range such as \"fd00:1::/64\"");
        if ipv4.is_none() && ipv6.is_none() {
            let problem = "the bridge needs a range: network.bridge.ipv4 or ipv6".to_owned();
            self.mistake(&["network", "bridge", "ipv4"], problem);
        }
        let mtu = u32::try_from(self.entries.whole(&["network", "bridge", "mtu"])).unwrap_or(0);
        NetworkChoice::Bridge { name, ipv4, ipv6, mtu: Some(mtu).filter(|mtu| *mtu > 0) }
    }

    fn handlers(&mut self) -> BTreeMap<HandlerName, HandlerSettings> {
        let own = HandlerSettings {
            kind: HandlerKind::Own,
            cni_config_dir: None,
            privileged_without_host_devices: false,
        };
        let mut handlers = BTreeMap::new();
        for name in self.entries.names("handlers") {
            let settings = self.handler(&name);
            match HandlerName::parse(&name) {
                Ok(parsed) if !parsed.is_default() => {
                    handlers.insert(parsed, settings);
                }
                Ok(_) => {
                    let problem =
                        "a handler needs a name; `default_handler` says which one is the \
                                   default"
                            .to_owned();
                    self.mistake(&["handlers", "", "kind"], problem);
                }
                Err(bad) => self.mistake(&["handlers", &name, "kind"], bad.to_string()),
            }
        }
        let default = self.entries.text(&["default_handler"]);
        let default_settings = match handlers.iter().find(|(name, _)| name.as_str() == default) {
            Some((_, settings)) => settings.clone(),
            None if default.is_empty() => own,
            None => {
                let problem = format!("`default_handler` is {default:?}: no such handler");
                self.mistake(&["default_handler"], problem);
                own
            }
        };
        handlers.insert(HandlerName::default(), default_settings);
        handlers
    }

    fn handler(&mut self, name: &str) -> HandlerSettings {
        let program = self.entries.path(&["handlers", name, "program"]);
        let options = self.entries.texts(&["handlers", name, "options"]);
        let is_oci = self.entries.text(&["handlers", name, "kind"]) == "oci";
        let kind = match (is_oci, program) {
            (true, Some(program)) => HandlerKind::Oci { program, options },
            (true, None) => {
                let problem = format!("handler {name:?} needs `program`");
                self.mistake(&["handlers", name, "kind"], problem);
                HandlerKind::Own
            }
            (false, program) => {
                if program.is_some() || !options.is_empty() {
                    let problem =
                        format!("handler {name:?} has a program but is not of kind \"oci\"");
                    self.mistake(&["handlers", name, "program"], problem);
                }
                HandlerKind::Own
            }
        };
        let cni_config_dir = self.entries.path(&["handlers", name, "cni_config_dir"]);
        let devices = self.entries.text(&["handlers", name, "privileged_devices"]);
        let privileged_without_host_devices = devices == "asked";
        HandlerSettings { kind, cni_config_dir, privileged_without_host_devices }
    }

    fn sysctls(&mut self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for text in self.entries.texts(&["pods", "sysctls"]) {
            match text.split_once('=') {
                Some((name, value)) if name.contains('.') => {
                    all.insert(name.trim().to_owned(), value.trim().to_owned());
                }
                Some(_) | None => {
                    let problem = format!("`pods.sysctls` has {text:?}: name=value is needed");
                    self.mistake(&["pods", "sysctls"], problem);
                }
            }
        }
        all
    }

    fn ulimits(&mut self) -> Vec<Ulimit> {
        let mut all = Vec::new();
        let mut seen = BTreeSet::new();
        for text in self.entries.texts(&["pods", "ulimits"]) {
            match ulimit(&text) {
                Some(limit) if seen.insert(limit.kind.clone()) => all.push(limit),
                Some(_) => {
                    let problem = format!("`pods.ulimits` has {text:?}: it is there twice");
                    self.mistake(&["pods", "ulimits"], problem);
                }
                None => {
                    let problem = format!(
                        "`pods.ulimits` has {text:?}: name=soft:hard is needed, soft not above hard"
                    );
                    self.mistake(&["pods", "ulimits"], problem);
                }
            }
        }
        all
    }
}

fn ulimit(text: &str) -> Option<Ulimit> {
    let (name, values) = text.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let number = |text: &str| match text.trim() {
        "unlimited" | "-1" => Some(u64::MAX),
        digits => digits.parse().ok(),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    let ok = ULIMITS.contains(&name.as_str()) && soft <= hard;
    ok.then(|| Ulimit { kind: format!("RLIMIT_{}", name.to_ascii_uppercase()), soft, hard })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Config, Vec<String>> {
        let (mut entries, mut mistakes) = (Entries::default(), Vec::new());
        entries.take(Path::new("c"), text, &mut mistakes);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        config(&entries).map_err(|all| all.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_said_is_a_whole_configuration() {
        let config = read("").unwrap();
        assert_eq!(config.socket.path, Path::new("/run/isopod/isopod.sock"));
        assert_eq!(config.socket.mode, 0o660);
        assert!(matches!(config.network, NetworkChoice::Cni(_)));
        assert_eq!(config.handlers.len(), 1);
        assert_eq!(config.images.deadline, None);
    }

    #[test]
    fn the_default_handler_is_one_of_the_handlers() {
        let text = "default_handler = \"crun\"\nstate = \"/s\"\n[handlers.crun]\nkind = \"oci\"\nprogram = \"/c\"\noptions = [\"--debug\"]\n";
        let config = read(text).unwrap();
        let default = &config.handlers[&HandlerName::default()];
        assert!(
            matches!(&default.kind, HandlerKind::Oci { program, .. } if program == Path::new("/c"))
        );
        assert_eq!(config.socket.path, Path::new("/s/isopod.sock"));
    }

    #[test]
    fn limits_are_read_as_ulimit_writes_them() {
        let config = read("pods.ulimits = [\"nofile=1024:524288\", \"core=unlimited\"]").unwrap();
        assert_eq!(config.ulimits[0].kind, "RLIMIT_NOFILE");
        assert_eq!((config.ulimits[0].soft, config.ulimits[0].hard), (1024, 524_288));
        assert_eq!(config.ulimits[1].hard, u64::MAX);
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_place() {
        for (text, start) in [
            ("root = \"/x\"\nstate = \"/x\"", "c:2: `root` and `state`"),
            ("default_handler = \"x\"", "c:1: `default_handler` is \"x\""),
            ("[handlers.x]\nkind = \"oci\"", "c:2: handler \"x\" needs `program`"),
            ("[handlers.x]\nprogram = \"/x\"", "c:2: handler \"x\" has a program"),
            ("[handlers.\"a b\"]\nkind = \"own\"", "c:2: \"a b\" is not"),
            ("[handlers.\"\"]\nkind = \"own\"", "c:2: a handler needs a name"),
            ("pods.ulimits = [\"nofile=9:1\"]", "c:1: `pods.ulimits`"),
            ("pods.ulimits = [\"nofile=9\", \"nofile=8\"]", "c:1: `pods.ulimits`"),
            ("pods.sysctls = [\"x\"]", "c:1: `pods.sysctls`"),
            ("streaming.certificate = \"/c\"", "c:1: a certificate is of no use without"),
            ("streaming.key = \"/k\"", "c:1: a key is of no use without"),
            ("deadlines.start = \"0s\"", "c:1: `deadlines.start`"),
            (
                "[network]\nmode = \"bridge\"\n[network.bridge]\nipv4 = \"10.0.0.1\"",
                "c:4: `network.bridge.ipv4`",
            ),
            (
                "[network]\nmode = \"bridge\"\n[network.bridge]\nname = \"a-name-too-long-for-it\"",
                "c:4: `network.bridge.name`",
            ),
            (
                "[images.credentials.\"r.example\"]\nusername = \"u\"",
                "c:2: credentials of r.example",
            ),
        ] {
            let mistakes = read(text).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{text}: {mistakes:?}");
            assert!(mistakes[0].starts_with(start), "{text}: {mistakes:?}");
        }
    }

    #[test]
    fn a_secret_is_not_printed() {
        let text = "[images.credentials.\"r.example\"]\nusername = \"u\"\npassword = \"hunter2\"";
        let printed = format!("{:?}", read(text).unwrap());
        assert!(printed.contains("r.example") && !printed.contains("hunter2"));
    }
}
