//! What is run, where, with which environment, and how it is asked to end.

use std::path::{Component, Path, PathBuf};

use model::{ContainerConfig, Signal};
use oci_image::ImageConfig;

use crate::error::SpecError;
use crate::inputs::Inputs;

/// Where programs are looked for when neither the image nor the request says.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program and its arguments. A command of the request replaces the image's entry point and its
/// command; arguments alone replace the image's command.
///
/// # Errors
/// [`SpecError::NoCommand`] where nothing is left.
pub fn command(container: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, SpecError> {
    let (program, arguments) = match (container.command.is_empty(), container.args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.cmd),
        (true, false) => (&image.entrypoint, &container.args),
        (false, _) => (&container.command, &container.args),
    };
    let line: Vec<String> = program.iter().chain(arguments).cloned().collect();
    match line.first() {
        Some(first) if !first.is_empty() => Ok(line),
        Some(_) | None => Err(SpecError::NoCommand),
    }
}

/// The working directory: the request's, else the image's, else the root. Always absolute and without `..`.
#[must_use]
pub fn working_dir(container: &ContainerConfig, image: &ImageConfig) -> PathBuf {
    match &container.working_dir {
        Some(dir) => cleaned(dir),
        None => cleaned(Path::new(&image.working_dir)),
    }
}

fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// The signal that asks a container to end: the request's, else the image's, else SIGTERM. What the image
/// says and nobody knows is passed over, as the image's author cannot be asked.
#[must_use]
pub fn stop_signal(container: &ContainerConfig, image: &ImageConfig) -> Signal {
    let of_image = || image.stop_signal.as_deref().and_then(|text| Signal::parse(text).ok());
    container.stop_signal.or_else(of_image).unwrap_or(Signal::TERM)
}

/// The environment: what every container has, then the image's, then the request's. A name that comes
/// again changes its value and keeps its place.
pub(crate) fn environment(inputs: &Inputs<'_>) -> Vec<String> {
    let mut env = Environment(vec![PATH.to_owned()]);
    let hostname = match inputs.sandbox.hostname.as_str() {
        "" => &inputs.host.hostname,
        name => name,
    };
    if !hostname.is_empty() {
        env.set(&format!("HOSTNAME={hostname}"));
    }
    if inputs.container.stdio.tty {
        env.set("TERM=xterm");
    }
    for variable in &inputs.image.env {
        env.set(variable);
    }
    for variable in &inputs.container.envs {
        env.set(&format!("{}={}", variable.name, variable.value.expose()));
    }
    if !env.has("HOME") {
        env.set(&format!("HOME={}", inputs.identity.home.display()));
    }
    env.0
}

struct Environment(Vec<String>);

impl Environment {
    fn place(&self, name: &str) -> Option<usize> {
        let is = |v: &String| v.split_once('=').is_some_and(|(known, _)| known == name);
        self.0.iter().position(is)
    }

    fn has(&self, name: &str) -> bool {
        self.place(name).is_some()
    }

    /// What has no `=` in it, or no name before it, is no variable.
    fn set(&mut self, variable: &str) {
        let Some((name, _)) = variable.split_once('=') else { return };
        match self.place(name) {
            _ if name.is_empty() => {}
            Some(at) => variable.clone_into(&mut self.0[at]),
            None => self.0.push(variable.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::Sample;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_request_and_the_image_make_the_command_as_kubernetes_says() {
        let mut sample = Sample::new();
        sample.image.entrypoint = strings(&["/entry"]);
        sample.image.cmd = strings(&["a", "b"]);
        for (request_command, request_args, expected) in [
            (&[][..], &[][..], &["/entry", "a", "b"][..]),
            (&[], &["c"], &["/entry", "c"]),
            (&["/mine"], &[], &["/mine"]),
            (&["/mine", "x"], &["c"], &["/mine", "x", "c"]),
        ] {
            sample.container.command = strings(request_command);
            sample.container.args = strings(request_args);
            assert_eq!(command(&sample.container, &sample.image).unwrap(), strings(expected));
        }
        let mut empty = Sample::new();
        empty.image.entrypoint = Vec::new();
        empty.image.cmd = Vec::new();
        assert_eq!(command(&empty.container, &empty.image), Err(SpecError::NoCommand));
    }

    #[test]
    fn the_working_directory_is_absolute_whatever_was_written() {
        let mut sample = Sample::new();
        for (request, image, expected) in [
            (None, "", "/"),
            (None, "/srv", "/srv"),
            (None, "srv/../x", "/x"),
            (Some("/app"), "/srv", "/app"),
            (Some("../../app/."), "/srv", "/app"),
        ] {
            sample.container.working_dir = request.map(PathBuf::from);
            sample.image.working_dir = image.to_owned();
            assert_eq!(working_dir(&sample.container, &sample.image), Path::new(expected));
        }
    }

    #[test]
    fn the_stop_signal_is_the_requests_then_the_images_then_sigterm() {
        let mut sample = Sample::new();
        assert_eq!(stop_signal(&sample.container, &sample.image), Signal::TERM);
        sample.image.stop_signal = Some("SIGQUIT".to_owned());
        assert_eq!(stop_signal(&sample.container, &sample.image).number(), 3);
        sample.container.stop_signal = Some(Signal::KILL);
        assert_eq!(stop_signal(&sample.container, &sample.image), Signal::KILL);
        sample.container.stop_signal = None;
        sample.image.stop_signal = Some("SIGNONSENSE".to_owned());
        assert_eq!(stop_signal(&sample.container, &sample.image), Signal::TERM);
    }

    #[test]
    fn the_environment_is_the_images_under_the_requests() {
        let mut sample = Sample::new();
        sample.image.env = strings(&["PATH=/bin", "A=image", "broken", "=x", "B=1"]);
        sample.env(&[("A", "request"), ("EMPTY", ""), ("A", "last")]);
        sample.container.stdio.tty = true;
        let env = environment(&sample.inputs());
        assert_eq!(
            env,
            ["PATH=/bin", "HOSTNAME=pod", "TERM=xterm", "A=last", "B=1", "EMPTY=", "HOME=/home/u"]
        );
    }

    #[test]
    fn in_the_hosts_network_the_host_name_is_the_hosts_and_a_given_home_stays() {
        let mut sample = Sample::new();
        sample.sandbox.hostname = String::new();
        sample.env(&[("HOME", "/x")]);
        let env = environment(&sample.inputs());
        assert_eq!(env, [PATH, "HOSTNAME=node", "HOME=/x"]);
    }
}
