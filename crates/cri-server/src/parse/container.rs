//! `ContainerConfig`.

use cri_api::v1;
use model::{ContainerConfig, ContainerMetadata, EnvVar, Secret, Signal, Stdio};

use super::image::image_spec;
use super::mounts::{device, mount};
use super::resources::resources;
use super::security::container_security;
use super::text::{absolute_or_none, arguments, name, relative};
use super::{At, BadField};

/// A container as `given` asks for it.
pub(crate) fn container_config(
    at: At<'_>,
    given: Option<v1::ContainerConfig>,
) -> Result<ContainerConfig, BadField> {
    let given = given.ok_or_else(|| at.missing())?;
    if given.windows.is_some() {
        return Err(at.to("windows").bad("set", "this is a Linux node"));
    }
    let linux = given.linux.unwrap_or_default();
    let below = at.to("linux");
    // Pods may say "once" of a standard input that they do not ask for; it means nothing then.
    let stdin_once = given.stdin && given.stdin_once;
    let stdio = Stdio { tty: given.tty, stdin: given.stdin, stdin_once };
    let mounts = given.mounts.iter().enumerate();
    let devices = given.devices.iter().enumerate();
    let cdi = given.cdi_devices.iter().enumerate();
    Ok(ContainerConfig {
        metadata: metadata(at.to("metadata"), given.metadata.as_ref())?,
        image: image_spec(at.to("image"), given.image.as_ref())?,
        command: arguments(at.to("command"), given.command)?,
        args: arguments(at.to("args"), given.args)?,
        working_dir: absolute_or_none(at.to("working_dir"), &given.working_dir)?,
        envs: environment(at, given.envs)?,
        mounts: mounts
            .map(|(index, one)| mount(at.nth("mounts", index), one))
            .collect::<Result<_, _>>()?,
        devices: devices
            .map(|(index, one)| device(at.nth("devices", index), one))
            .collect::<Result<_, _>>()?,
        cdi_devices: cdi
            .map(|(index, one)| cdi_device(at.nth("CDI_devices", index), &one.name))
            .collect::<Result<_, _>>()?,
        labels: given.labels,
        annotations: given.annotations,
        log_path: log_path(at.to("log_path"), &given.log_path)?,
        stdio,
        stop_signal: stop_signal(at.to("stop_signal"), given.stop_signal)?,
        resources: resources(below.to("resources"), linux.resources.as_ref())?,
        security: container_security(
            below.to("security_context"),
            linux.security_context.as_ref(),
        )?,
    })
}

fn metadata(
    at: At<'_>,
    given: Option<&v1::ContainerMetadata>,
) -> Result<ContainerMetadata, BadField> {
    let given = given.ok_or_else(|| at.missing())?;
    Ok(ContainerMetadata { name: name(at.to("name"), &given.name)?, attempt: given.attempt })
}

fn environment(at: At<'_>, given: Vec<v1::KeyValue>) -> Result<Vec<EnvVar>, BadField> {
    let mut parsed = Vec::with_capacity(given.len());
    for (index, one) in given.into_iter().enumerate() {
        let at = at.nth("envs", index);
        if one.key.is_empty() || one.key.contains(['=', '\0']) {
            return Err(at.to("key").bad(&one.key, "a name without '=' and NUL is needed"));
        }
        let value = std::str::from_utf8(&one.value)
            .ok()
            .filter(|value| !value.contains('\0'))
            .ok_or_else(|| at.to("value").bad_secret("UTF-8 without NUL is needed"))?;
        parsed.push(EnvVar { value: Secret::new(value.to_owned()), name: one.key });
    }
    Ok(parsed)
}

/// `vendor/class=name`, as the Container Device Interface qualifies names.
fn cdi_device(at: At<'_>, given: &str) -> Result<String, BadField> {
    let part = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    };
    let ok = given
        .split_once('=')
        .and_then(|(kind, device)| {
            kind.split_once('/').map(|(vendor, class)| (vendor, class, device))
        })
        .is_some_and(|(vendor, class, device)| part(vendor) && part(class) && part(device));
    if ok { Ok(given.to_owned()) } else { Err(at.bad(given, "vendor/class=name is needed")) }
}

fn log_path(at: At<'_>, given: &str) -> Result<Option<std::path::PathBuf>, BadField> {
    if given.is_empty() { Ok(None) } else { relative(at, given).map(Some) }
}

fn stop_signal(at: At<'_>, given: i32) -> Result<Option<Signal>, BadField> {
    let named = v1::Signal::try_from(given).map_err(|_| at.bad(given, "not a signal"))?;
    let name = named.as_str_name().trim_start_matches("SIGNAL_");
    if named == v1::Signal::RuntimeDefault {
        return Ok(None);
    }
    let name = name.replacen("PLUS", "+", 1).replacen("MINUS", "-", 1);
    Signal::parse(&name).map(Some).map_err(|_| at.bad(name, "not a signal of this system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut v1::ContainerConfig);

    fn parsed(change: Change) -> Result<ContainerConfig, BadField> {
        let mut given = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
            ..Default::default()
        };
        change(&mut given);
        container_config(At::field("config"), Some(given))
    }

    fn variable(key: &str, value: &'static [u8]) -> v1::KeyValue {
        v1::KeyValue { key: key.into(), value: value.into() }
    }

    #[test]
    fn every_signal_of_the_wire_is_a_signal_of_linux() {
        for number in 1..=65 {
            let got = stop_signal(At::field("s"), number).unwrap();
            assert!(got.is_some(), "signal {number}");
        }
        assert_eq!(stop_signal(At::field("s"), 0).unwrap(), None);
        let of = |signal: v1::Signal| {
            stop_signal(At::field("s"), signal.into()).unwrap().unwrap().number()
        };
        assert_eq!(of(v1::Signal::Sigterm), 15);
        assert_eq!(of(v1::Signal::Sigrtminplus3), 37);
        assert_eq!(of(v1::Signal::Sigrtmaxminus1), 63);
    }

    #[test]
    fn variables_keep_their_order_and_a_bad_value_is_not_shown() {
        let got = parsed(|c| c.envs = vec![variable("B", b"2"), variable("A", b"1")]).unwrap();
        assert_eq!(got.envs.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["B", "A"]);
        let bad = parsed(|c| c.envs = vec![variable("TOKEN", b"hunter2\xff")]).unwrap_err();
        assert!(!bad.to_string().contains("hunter2"), "{bad}");
    }

    #[test]
    fn malformed_containers_are_refused_by_field() {
        let table: &[(&str, Change)] = &[
            ("config.metadata", |c| c.metadata = None),
            ("config.metadata.name", |c| c.metadata.as_mut().unwrap().name = "a/b".into()),
            ("config.image", |c| c.image = None),
            ("config.image.image", |c| c.image.as_mut().unwrap().image.clear()),
            ("config.command", |c| c.command = vec!["a\0b".into()]),
            ("config.working_dir", |c| c.working_dir = "srv".into()),
            ("config.envs[0].key", |c| c.envs = vec![variable("A=B", b"")]),
            ("config.envs[1].value", |c| {
                c.envs = vec![variable("A", b""), variable("B", b"\0")];
            }),
            ("config.mounts[0].container_path", |c| c.mounts = vec![Default::default()]),
            ("config.devices[0].host_path", |c| c.devices = vec![Default::default()]),
            ("config.CDI_devices[0]", |c| {
                c.cdi_devices = vec![v1::CdiDevice { name: "gpu0".into() }];
            }),
            ("config.log_path", |c| c.log_path = "../x.log".into()),
            ("config.log_path", |c| c.log_path = "/var/log/x".into()),
            ("config.stop_signal", |c| c.stop_signal = 99),
            ("config.windows", |c| c.windows = Some(Default::default())),
        ];
        for (field, change) in table {
            let bad = parsed(*change).unwrap_err();
            assert_eq!(bad.field, *field, "{bad}");
        }
    }
}
