//! `isopod run IMAGE`: from options to a plan. No I/O.

use std::path::{Path, PathBuf};

use cri_api::v1::{
    Capability, Int64Value, KeyValue, LinuxContainerSecurityContext, Mount, NamespaceMode,
    PortMapping, Protocol,
};

use super::plan::{Identity, Plan, Planned, PullWhen, UserRule, privilege};
use crate::cli::text::parse_label;
use crate::cli::update::Limits;

/// Options of a pod with one container.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// The pod's name; made from the image's where none is given
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A variable, KEY=VALUE, or KEY to take the value from here; may be repeated
    #[arg(long, short, value_name = "KEY[=VALUE]", value_parser = parse_env)]
    pub env: Vec<(String, String)>,
    /// A directory or file of the host in the container, HOST:CONTAINER or HOST:CONTAINER:ro; may be
    /// repeated
    #[arg(long, short, value_name = "HOST:CONTAINER", value_parser = parse_volume)]
    pub volume: Vec<Mount>,
    /// A port of the host for one of the container, HOST:CONTAINER, with an address and a colon before
    /// it or not, with /udp or /sctp behind it or not; may be repeated
    #[arg(long, short, value_name = "HOST:CONTAINER", value_parser = parse_port)]
    pub publish: Vec<PortMapping>,
    /// The pod's network: its own, or the host's
    #[arg(long, value_enum, default_value_t = Network::Pod)]
    pub network: Network,
    /// The working directory
    #[arg(long, short, value_name = "DIRECTORY")]
    pub workdir: Option<String>,
    /// The user: a name, a number, or the numbers of user and group with a colon between them
    #[arg(long, short, value_name = "USER", value_parser = parse_user)]
    pub user: Option<User>,
    /// The host name; the pod's name where none is given
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// The program, instead of the image's; CMD is its arguments
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// A label of the pod and its container; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
    /// A capability more, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// A capability less, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// Take all protection away: the container is root on this machine
    #[arg(long)]
    pub privileged: bool,
    /// The root file system cannot be written
    #[arg(long)]
    pub read_only: bool,
    /// Give the container a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Pass standard input on to it
    #[arg(long, short)]
    pub interactive: bool,
    /// When to fetch the image
    #[arg(long, value_enum, default_value_t = PullWhen::Missing, value_name = "WHEN")]
    pub pull: PullWhen,
    #[command(flatten)]
    pub limits: Limits,
}

/// Which network a pod is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
    /// One of its own
    Pod,
    /// The host's
    Host,
}

/// Who the process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// By number, with a group or not.
    Number(i64, Option<i64>),
    /// By the image's name for it.
    Name(String),
}

/// The plan for a pod with one container of `image`; the pod's files are in `directory`.
pub fn plan(
    flags: &Flags,
    identity: &Identity,
    image: &str,
    command: &[String],
    directory: &Path,
) -> Plan {
    let mut sandbox = identity.sandbox(directory);
    sandbox.labels.extend(flags.label.iter().cloned());
    sandbox.port_mappings.clone_from(&flags.publish);
    if let Some(hostname) = &flags.hostname {
        sandbox.hostname.clone_from(hostname);
    }
    let mut config = identity.container(&identity.name, image);
    config.labels.extend(flags.label.iter().cloned());
    config.command = flags.entrypoint.iter().cloned().collect();
    config.args = command.to_vec();
    config.working_dir = flags.workdir.clone().unwrap_or_default();
    config.envs = flags
        .env
        .iter()
        .map(|(key, value)| KeyValue { key: key.clone(), value: value.clone().into() })
        .collect();
    config.mounts.clone_from(&flags.volume);
    config.tty = flags.tty;
    config.stdin = flags.interactive;
    if let Some(linux) = &mut config.linux {
        linux.resources = Some(flags.limits.resources());
        if let Some(context) = &mut linux.security_context {
            secure(context, flags);
        }
    }
    if flags.network == Network::Host {
        sandbox.hostname.clear();
        let of_pod = sandbox.linux.iter_mut().flat_map(|linux| &mut linux.security_context);
        let of_pod = of_pod.flat_map(|context| &mut context.namespace_options);
        let of_container = config.linux.iter_mut().flat_map(|linux| &mut linux.security_context);
        let of_container = of_container.flat_map(|context| &mut context.namespace_options);
        of_pod.chain(of_container).for_each(|o| o.network = NamespaceMode::Node.into());
    }
    if flags.privileged
        && let Some(context) = sandbox.linux.as_mut().and_then(|l| l.security_context.as_mut())
    {
        context.privileged = true;
    }
    let planned = Planned { config, pull: flags.pull, user: UserRule::Any };
    Plan {
        sandbox,
        handler: String::new(),
        init: Vec::new(),
        containers: vec![planned],
        directories: Vec::new(),
        grace: 10,
    }
}

fn secure(context: &mut LinuxContainerSecurityContext, flags: &Flags) {
    if flags.privileged {
        privilege(context);
    }
    context.capabilities = Some(Capability {
        add_capabilities: flags.cap_add.clone(),
        drop_capabilities: flags.cap_drop.clone(),
        add_ambient_capabilities: Vec::new(),
    });
    context.readonly_rootfs = flags.read_only;
    match &flags.user {
        Some(User::Number(user, group)) => {
            context.run_as_user = Some(Int64Value { value: *user });
            context.run_as_group = group.map(|value| Int64Value { value });
        }
        Some(User::Name(name)) => context.run_as_username.clone_from(name),
        None => {}
    }
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("a variable is KEY=VALUE".to_owned()),
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => std::env::var(text)
            .map(|value| (text.to_owned(), value))
            .map_err(|_| format!("{text} has no value here; give it one with {text}=VALUE")),
    }
}

fn parse_volume(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, readonly) = match parts[..] {
        [host, container] | [host, container, "rw"] => (host, container, false),
        [host, container, "ro"] => (host, container, true),
        _ => return Err("a volume is HOST:CONTAINER, with :ro behind it or not".to_owned()),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err("both paths begin with /".to_owned());
    }
    Ok(Mount {
        container_path: container.to_owned(),
        host_path: host.to_owned(),
        readonly,
        ..Default::default()
    })
}

fn parse_port(text: &str) -> Result<PortMapping, String> {
    let wrong =
        || "a port is HOST:CONTAINER, an address before it or not, /tcp, /udp or /sctp behind";
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(wrong().to_owned()),
    };
    let (rest, container) = ports.rsplit_once(':').ok_or_else(wrong)?;
    let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    let number = |text: &str| {
        text.parse::<u16>().ok().filter(|port| *port > 0).map(i32::from).ok_or_else(wrong)
    };
    let address = address.trim_matches(['[', ']']);
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("{address:?} is no address"));
    }
    Ok(PortMapping {
        protocol: protocol.into(),
        container_port: number(container)?,
        host_port: number(host)?,
        host_ip: address.to_owned(),
    })
}

fn parse_user(text: &str) -> Result<User, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let number = |text: &str| text.parse::<u32>().ok().map(i64::from);
    match (number(user), group.map(number)) {
        (Some(user), None) => Ok(User::Number(user, None)),
        (Some(user), Some(Some(group))) => Ok(User::Number(user, Some(group))),
        (None, None) if !user.is_empty() => Ok(User::Name(user.to_owned())),
        _ => Err("a user is a name, a number, or two numbers NUMBER:NUMBER".to_owned()),
    }
}

/// A name for a pod, from an image's: the last part of its path, without tag and digest.
pub fn name_from(image: &str, uid: &str) -> String {
    let path = image.split_once('@').map_or(image, |(path, _)| path);
    let last = path.rsplit('/').next().unwrap_or(path);
    let base = last.split_once(':').map_or(last, |(base, _)| base);
    let base: String = base
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let base = base.trim_matches('-');
    let base = if base.is_empty() { "pod" } else { base };
    format!("{base}-{}", uid.get(..5).unwrap_or(uid))
}

/// A file that the image lacks and a directory that is made are the same mistake to a person: say
/// which paths of the host are not there.
pub fn missing_volumes(flags: &Flags, exists: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let hosts = flags.volume.iter().map(|mount| PathBuf::from(&mount.host_path));
    hosts.filter(|path| !exists(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_images() {
        let table = [
            ("busybox", "busybox-01234"),
            ("docker.io/library/Nginx:1.2", "nginx-01234"),
            ("r.example:5000/a/b_c@sha256:00", "b-c-01234"),
            ("___", "pod-01234"),
        ];
        for (image, name) in table {
            assert_eq!(name_from(image, "0123456789"), name, "{image}");
        }
    }

    #[test]
    fn ports_have_two_numbers_and_maybe_an_address_and_a_protocol() {
        let port = parse_port("[::1]:8080:80/udp").unwrap();
        assert_eq!((port.host_ip.as_str(), port.host_port, port.container_port), ("::1", 8080, 80));
        assert_eq!(port.protocol(), Protocol::Udp);
        assert_eq!(parse_port("10.0.0.1:1:2").unwrap().host_ip, "10.0.0.1");
        for wrong in ["80", "0:80", "x:80", "1:2/quic", "nowhere:1:2", "1:99999"] {
            assert!(parse_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn volumes_and_users_are_checked() {
        assert!(parse_volume("/a:/b:ro").unwrap().readonly);
        for wrong in ["/a", "a:/b", "/a:b", "/a:/b:x", "/a:/b:ro:z"] {
            assert!(parse_volume(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_user("1:2"), Ok(User::Number(1, Some(2))));
        assert_eq!(parse_user("www"), Ok(User::Name("www".to_owned())));
        for wrong in ["", "www:x", "1:x", ":1"] {
            assert!(parse_user(wrong).is_err(), "{wrong}");
        }
    }
}
