//! What a call asks for, in a few words, for people who look at its operation later.
//!
//! Always: pure and bounded; of the environment the number of variables and nothing else, of an image's credentials
//! only whether the call brought some. A container's command is told: its runtime spec, which everybody may ask for
//! who may look, has it too.

use model::{
    ContainerConfig, IpcMode, MountSource, NetworkMode, PidMode, SandboxConfig, UserNamespace,
};

/// The longest text, in bytes.
const LONGEST: usize = 512;
/// Bytes of a command that are told.
const COMMAND: usize = 160;

/// A pod.
pub(crate) fn sandbox(config: &SandboxConfig) -> String {
    let namespaces = &config.namespaces;
    let network = match namespaces.network {
        NetworkMode::Pod => "a network of its own",
        NetworkMode::Node => "the node's network",
    };
    let user = match namespaces.user {
        UserNamespace::Node => "",
        UserNamespace::Pod { .. } => "a user namespace of its own",
    };
    let handler = match config.handler.as_str() {
        "" => "the default handler".to_owned(),
        name => format!("handler {name}"),
    };
    said([
        handler,
        network.to_owned(),
        pid(&namespaces.pid).to_owned(),
        ipc(namespaces.ipc).to_owned(),
        user.to_owned(),
        count(config.port_mappings.len(), "host port"),
        count(config.sysctls.len(), "kernel parameter"),
        when(config.privileged, "privileged"),
    ])
}

/// A container.
pub(crate) fn container(config: &ContainerConfig) -> String {
    let namespaces = &config.security.namespaces;
    let of_images = |one: &&model::Mount| match one.source {
        MountSource::Image { .. } => true,
        MountSource::HostPath(_) => false,
    };
    let images = config.mounts.iter().filter(of_images).count();
    let mounts = match (config.mounts.len(), images) {
        (all, 0) => count(all, "mount"),
        (all, images) => format!("{} ({images} of images)", count(all, "mount")),
    };
    said([
        format!("image {}", config.image.image),
        command(config),
        mounts,
        count(config.devices.len() + config.cdi_devices.len(), "device"),
        count(config.envs.len(), "variable"),
        pid(&namespaces.pid).to_owned(),
        ipc(namespaces.ipc).to_owned(),
        when(config.stdio.tty, "a terminal"),
        when(config.security.privileged, "privileged"),
    ])
}

/// An image.
pub(crate) fn image(name: &str, has_credentials: bool) -> String {
    said([format!("image {name}"), when(has_credentials, "credentials came with the call")])
}

fn command(config: &ContainerConfig) -> String {
    let what = match (config.command.is_empty(), config.args.is_empty()) {
        (true, true) => return "the image's command".to_owned(),
        (true, false) => "the image's command with",
        (false, _) => "command",
    };
    let words = config.command.iter().chain(&config.args);
    let words: Vec<String> = words.take(COMMAND).map(|word| quoted(word)).collect();
    format!("{what} {}", cut(words.join(" "), COMMAND))
}

/// A word as a shell would take it, more or less: for people.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    let needs_none = !word.is_empty() && word.chars().all(is_plain);
    let word = cut(word.to_owned(), COMMAND);
    if needs_none { word } else { format!("{word:?}") }
}

fn pid(mode: &PidMode) -> &'static str {
    match mode {
        PidMode::Container => "",
        PidMode::Pod => "processes shared in the pod",
        PidMode::Node => "the node's processes",
        PidMode::Target(_) => "the processes of another container",
    }
}

fn ipc(mode: IpcMode) -> &'static str {
    match mode {
        IpcMode::Pod => "",
        IpcMode::Container => "IPC of its own",
        IpcMode::Node => "the node's IPC",
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        0 => String::new(),
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    }
}

fn when(holds: bool, what: &str) -> String {
    if holds { what.to_owned() } else { String::new() }
}

/// What is not empty, on one line whatever callers have put into their texts.
fn said<const N: usize>(parts: [String; N]) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let text = parts.join(", ").replace(|c: char| c.is_control(), "?");
    cut(text, LONGEST)
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most - "…".len()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use cri_api::v1;

    use super::*;
    use crate::parse::{self, At};

    /// Namespaces that are not named are the pod's.
    const SHARED: &str = "processes shared in the pod";

    fn container_of(change: impl FnOnce(&mut v1::ContainerConfig)) -> String {
        let mut config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: "busybox:1".into(), ..Default::default() }),
            envs: vec![v1::KeyValue { key: "PASSWORD".into(), value: "hunter2".into() }],
            ..Default::default()
        };
        change(&mut config);
        container(&parse::container_config(At::field("config"), Some(config)).unwrap())
    }

    #[test]
    fn what_a_container_is_asked_for_as_is_told_without_its_environment() {
        let text = container_of(|_| ());
        assert_eq!(text, format!("image busybox:1, the image's command, 1 variable, {SHARED}"));
        let text = container_of(|config| {
            config.command = vec!["sh".into(), "-c".into()];
            config.args = vec!["sleep 5\n".into()];
            let host_path = "/srv".to_owned();
            config.mounts = vec![
                v1::Mount {
                    container_path: "/a".into(),
                    host_path: host_path.clone(),
                    ..Default::default()
                },
                v1::Mount { container_path: "/b".into(), host_path, ..Default::default() },
            ];
        });
        let said = "image busybox:1, command sh -c \"sleep 5\\n\", 2 mounts, 1 variable";
        assert_eq!(text, format!("{said}, {SHARED}"));
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn no_command_is_too_long_and_none_breaks_the_line() {
        let text = container_of(|config| {
            config.args = vec!["ä".repeat(100_000), "\u{1b}[2J".into()];
        });
        assert!(text.len() <= LONGEST && !text.contains(char::is_control), "{text}");
        assert!(text.contains("the image's command with ää") && text.contains('…'), "{text}");
    }

    #[test]
    fn what_a_pod_and_a_pull_are_asked_for_as_is_told() {
        let config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".into(),
                uid: "1".into(),
                namespace: "d".into(),
                attempt: 0,
            }),
            ..Default::default()
        };
        let config = parse::sandbox_config(At::field("config"), Some(config), "").unwrap();
        let text = sandbox(&config);
        assert!(text.contains("handler") && text.contains("a network of its own"), "{text}");
        assert_eq!(image("busybox", false), "image busybox");
        assert_eq!(image("busybox", true), "image busybox, credentials came with the call");
    }
}
