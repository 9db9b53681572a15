//! The rules between keys.
//!
//! Owns: what of the merged entries makes a whole configuration. Always: all mistakes are found, each with
//! its file and line.
//! Callers: `load`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use model::HandlerName;

use super::entries::Entries;
use super::mistake::Mistake;
use super::settings::{
    CgroupChoice, CniSettings, Config, Credential, Deadlines, HandlerKind, HandlerSettings,
    ImageSettings, LogFormat, LogSettings, NetworkChoice, Ulimit,
};
use super::{containers, front, seeing, streaming};

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

/// The configuration that `entries` say, and what is wrong with it as a whole. What is wrong only because a mistake
/// hides a value is left out: it may be right.
pub fn config(entries: &Entries) -> (Config, Vec<Mistake>) {
    let mut reader = Reader { entries, mistakes: Vec::new() };
    let state = reader.path(&["state"]);
    let socket = front::socket(&reader, &state);
    let config = Config {
        root: reader.path(&["root"]),
        read_only: front::read_only(&mut reader, &socket),
        socket,
        limits: front::limits(&mut reader),
        audit: entries.path(&["audit", "path"]),
        metrics: front::metrics(&mut reader),
        traces: seeing::traces(&mut reader),
        stats: seeing::stats(&mut reader),
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
        dead_containers: reader.count(&["pods", "dead_containers"]),
        log_rate: Some(entries.whole(&["pods", "log_rate"])).filter(|rate| *rate > 0),
        log_total: Some(entries.whole(&["pods", "log_total"])).filter(|total| *total > 0),
        containers: containers::settings(&mut reader),
        streaming: streaming::settings(&mut reader),
        deadlines: Deadlines {
            network: reader.bound("network"),
            monitor: reader.bound("monitor"),
            host_path: reader.bound("host_path"),
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
    (config, reader.mistakes)
}

/// Reads entries, and gathers what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) entries: &'a Entries,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    pub(super) fn mistake(&mut self, path: &[&str], problem: String) {
        if !self.entries.is_unsure(path) {
            self.mistakes.push(Mistake { origin: self.entries.origin(path), problem });
        }
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
            parallel_layers: self.count(&["images", "parallel_layers"]),
            stall: self.entries.time(&["images", "stall"]),
            min_rate: self.entries.whole(&["images", "min_rate"]),
            preloaded: self.paths(&["images", "preloaded"]),
            unqualified: self.unqualified(),
            policy: self.entries.path(&["images", "policy"]),
            auth_files: self.paths(&["images", "auth_files"]),
            keep_partial: self.entries.time(&["images", "keep_partial"]),
            keep_blobs: self.entries.text(&["images", "keep_blobs"]) == "yes",
            deadline: Some(deadline).filter(|time| !time.is_zero()),
            keep_unused: self.entries.time(&["images", "keep_unused"]),
            max_layer: self.entries.whole(&["images", "max_layer"]),
            pinned: self.entries.texts(&["images", "pinned"]),
            credentials: self.credentials(),
        }
    }

    fn paths(&self, path: &[&str]) -> Vec<PathBuf> {
        self.entries.texts(path).into_iter().map(PathBuf::from).collect()
    }

    /// Registries, each of which makes a name of a name.
    fn unqualified(&mut self) -> Vec<String> {
        let all = self.entries.texts(&["images", "unqualified"]);
        let is_bad = |registry: &&String| {
            let name = format!("{registry}/x");
            !oci_image::Reference::says_registry(&name)
                || oci_image::Reference::parse(&name).is_err()
        };
        if let Some(bad) = all.iter().find(is_bad) {
            let problem = format!("`images.unqualified` has {bad:?}: a registry is needed");
            self.mistake(&["images", "unqualified"], problem);
        }
        all
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
                    self.mistake(&at("username"), problem);
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
            annotations: Vec::new(),
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
        let annotations = self.entries.texts(&["handlers", name, "annotations"]);
        HandlerSettings { kind, cni_config_dir, privileged_without_host_devices, annotations }
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
        let (config, mistakes) = config(&entries);
        let told: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        if told.is_empty() { Ok(config) } else { Err(told) }
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
    fn classes_and_profiles_of_containers_are_read() {
        let text = "rdt.default = \"gold\"\n[rdt.classes.gold]\nl3 = \"L3:0=ff\"\n[rdt.classes.tin]\n\
                    bandwidth = \"MB:0=20\"\n[block_io.classes.slow]\nweight = 50\n\
                    read_rate = [\"/dev/sda=10MiB\"]\nwrite_operations = [\"/dev/sda=100\"]\n\
                    [pods]\nexec_cpus = \"first\"\nwritable_size = \"10GiB\"\npids_limit = 99\napparmor_profile = \"\"\n\
                    [handlers.x]\nannotations = [\"a.io/*\"]\n";
        let config = read(text).unwrap();
        let containers = &config.containers;
        assert_eq!(containers.classes.rdt["gold"].l3, "L3:0=ff");
        assert_eq!(containers.classes.rdt["tin"].bandwidth, "MB:0=20");
        let slow = &containers.classes.block_io["slow"];
        assert_eq!(
            (slow.weight, &slow.read_bps[..]),
            (Some(50), &[("/dev/sda".into(), 10 << 20)][..])
        );
        assert_eq!(slow.write_iops, [("/dev/sda".into(), 100)]);
        assert_eq!((containers.writable.size, containers.writable.max), (Some(10 << 30), None));
        assert_eq!(containers.projects, 16_777_216..=17_825_791);
        assert_eq!((containers.pids_limit, &containers.apparmor_profile), (Some(99), &None));
        assert_eq!(containers.cdi_dirs, ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from));
        assert_eq!(config.handlers[&HandlerName::parse("x").unwrap()].annotations, ["a.io/*"]);
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
            ("pods.exec_cpus = \"last\"", "c:1: `pods.exec_cpus` is \"last\""),
            ("pods.writable_projects = \"7\"", "c:1: `pods.writable_projects` is \"7\""),
            ("pods.writable_projects = \"0-9\"", "c:1: `pods.writable_projects` is \"0-9\""),
            ("pods.writable_projects = \"9-7\"", "c:1: `pods.writable_projects` is \"9-7\""),
            (
                "[pods]\nwritable_max = \"1GiB\"\nwritable_size = \"2GiB\"",
                "c:3: `pods.writable_size` is more",
            ),
            ("rdt.default = \"gold\"", "c:1: `rdt.default` is \"gold\": no such class"),
            ("block_io.default = \"fast\"", "c:1: `block_io.default` is \"fast\": no such class"),
            ("[rdt.classes.info]\nl3 = \"L3:0=f\"", "c:2: \"info\" cannot be the name"),
            ("[rdt.classes.a]\nl3 = \"0=f\"", "c:2: `rdt.classes.a.l3` is \"0=f\""),
            ("[block_io.classes.a]\nweight = 5", "c:2: `block_io.classes.a.weight`"),
            (
                "[block_io.classes.a]\nread_rate = [\"sda=5\"]",
                "c:2: `block_io.classes.a.read_rate` has \"sda=5\"",
            ),
            ("streaming.certificate = \"/c\"", "c:1: a certificate is of no use without"),
            ("streaming.key = \"/k\"", "c:1: a key is of no use without"),
            ("deadlines.start = \"0s\"", "c:1: `deadlines.start`"),
            ("limits.handshake = \"0s\"", "c:1: `limits.handshake`"),
            ("metrics.address = \"9100\"", "c:1: `metrics.address`"),
            ("traces.endpoint = \"localhost\"", "c:1: `traces.endpoint`"),
            ("traces.endpoint = \"https://x:4317\"", "c:1: `traces.endpoint`"),
            ("traces.endpoint = \"http://user:p@x:1\"", "c:1: `traces.endpoint`"),
            ("stats.cpu_window = \"1ms\"", "c:1: `stats.cpu_window`"),
            (
                "socket.path = \"/s\"\nsocket.read_only_path = \"/s\"",
                "c:2: `socket.read_only_path`",
            ),
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
    fn what_only_seems_wrong_beside_a_mistake_is_not_told() {
        let text = "default_handler = \"crun\"\n[handlers.crun]\nkind = \"oic\"\nprogram = \"/c\"\n\
                    [images.credentials.r]\npasswort = \"x\"\n[streaming]\ncertificate = \"/c\"\nkye = \"/k\"\n\
                    [metrics]\naddress = \"9100\"\n";
        let (mut entries, mut mistakes) = (Entries::default(), Vec::new());
        entries.take(Path::new("c"), text, &mut mistakes);
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        let told: Vec<String> = config(&entries).1.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("`metrics.address`"), "{told:?}");
    }

    #[test]
    fn a_secret_is_not_printed() {
        let text = "[images.credentials.\"r.example\"]\nusername = \"u\"\npassword = \"hunter2\"";
        let printed = format!("{:?}", read(text).unwrap());
        assert!(printed.contains("r.example") && !printed.contains("hunter2"));
    }
}
