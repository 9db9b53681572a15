//! The verbs of CNI over a network's chain of plugins.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::args::{Extra, stdin};
use super::conf::{Network, Plugin};
use super::exec::{Call, locate};
use super::result::{parse, read_versions};
use super::version::Version;
use super::{Cni, Subject};
use crate::error::NetworkError;
use crate::record::Cached;

/// The longest that a plugin may think about its status or its versions.
const QUESTION: Duration = Duration::from_secs(10);
/// CNI's "unknown container": for DEL, what was to be reached.
const UNKNOWN_CONTAINER: u32 = 3;

/// What came of a CHECK that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckAnswer {
    /// All plugins say that it is as they left it.
    Whole,
    /// No plugin was asked, for this reason.
    NotAsked(&'static str),
}

/// What a plugin of a chain has answered to ADD.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    /// Its result.
    pub(crate) result: Value,
    /// Whether this was the chain's last plugin, so that its result is the network's.
    pub(crate) is_last: bool,
}

fn paths(dirs: &[std::path::PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":")
}

impl Cni {
    async fn call(
        &self,
        network: &Network,
        plugin: &Plugin,
        verb: &'static str,
        env: &[(&'static str, String)],
        extra: Extra<'_>,
    ) -> Result<Value, NetworkError> {
        let program = locate(&plugin.kind, &self.config.bin_dirs)?;
        let call = Call {
            plugin: &plugin.kind,
            network: &network.name,
            verb,
            program: &program,
            env,
            stdin: &stdin(network, plugin, extra),
            timeout: if verb == "STATUS" { self.short() } else { self.config.plugin_timeout },
        };
        // Nobody closes the semaphore.
        let _slot = self.slots.acquire().await;
        let sandbox = env.iter().find(|(name, _)| *name == "CNI_CONTAINERID");
        let sandbox = sandbox.map_or("", |(_, id)| id.as_str());
        let open = self.calls.begin(&plugin.kind, &network.name, verb, sandbox);
        fault::point!("cni.", verb, ".", plugin.kind, ".before");
        let output = call.run().await?;
        fault::point!("cni.", verb, ".", plugin.kind, ".after");
        open.succeeded();
        if output.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        if verb != "ADD" {
            return Ok(Value::Null);
        }
        parse(&output).map_err(|how| call.broken(how, &[]))
    }

    /// The time for a question that changes nothing.
    fn short(&self) -> Duration {
        self.config.plugin_timeout.min(QUESTION)
    }

    fn env(&self, subject: Option<(Subject<'_>, &Cached)>) -> Vec<(&'static str, String)> {
        let mut env = vec![("CNI_PATH", paths(&self.config.bin_dirs))];
        if let Some((subject, cached)) = subject {
            let args: Vec<String> =
                cached.cni_args.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let netns = subject.netns.map(|path| path.display().to_string()).unwrap_or_default();
            env.extend([
                ("CNI_CONTAINERID", subject.container.to_owned()),
                ("CNI_NETNS", netns),
                ("CNI_IFNAME", cached.if_name.clone()),
                ("CNI_ARGS", args.join(";")),
            ]);
        }
        env
    }

    /// ADD of the plugin at this place of the chain, told the result of the one before. Its result is to be
    /// recorded before the next. `None` past the end of the chain. On a failure what the plugins made may be
    /// there; `delete` takes it away.
    pub(crate) async fn add(
        &self,
        subject: Subject<'_>,
        cached: &Cached,
        place: usize,
        previous: Option<&Value>,
    ) -> Result<Option<Added>, NetworkError> {
        let network = Network::from_value(cached.config.clone())?;
        let Some(plugin) = network.plugins.get(place) else { return Ok(None) };
        let env = self.env(Some((subject, cached)));
        let extra = Extra { capability_args: Some(&cached.capability_args), previous, valid: None };
        let mut result = self.call(&network, plugin, "ADD", &env, extra).await?;
        let Value::Object(map) = &mut result else {
            return Err(NetworkError::PluginBroken {
                plugin: plugin.kind.clone(),
                network: network.name.clone(),
                verb: "ADD",
                how: "it succeeded and printed no result".into(),
                stderr: String::new(),
            });
        };
        map.entry("cniVersion").or_insert_with(|| network.version.to_string().into());
        Ok(Some(Added { result, is_last: place + 1 == network.plugins.len() }))
    }

    /// DEL: the plugins in reverse order, each told the result of ADD. Ends at the first that fails, because
    /// those before it in the chain may hold what its leftovers still lead to.
    pub(crate) async fn delete(
        &self,
        subject: Subject<'_>,
        cached: &Cached,
    ) -> Result<(), NetworkError> {
        let network = Network::from_value(cached.config.clone())?;
        let env = self.env(Some((subject, cached)));
        let previous = cached
            .result
            .as_ref()
            .or(cached.partial.as_ref())
            .filter(|_| network.version >= Version::V0_4);
        let extra = Extra { capability_args: Some(&cached.capability_args), previous, valid: None };
        for plugin in network.plugins.iter().rev() {
            match self.call(&network, plugin, "DEL", &env, extra).await {
                Err(NetworkError::Plugin { code: UNKNOWN_CONTAINER, .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// CHECK, where the version has it and the configuration does not forbid it.
    pub(crate) async fn check(
        &self,
        subject: Subject<'_>,
        cached: &Cached,
    ) -> Result<CheckAnswer, NetworkError> {
        let network = Network::from_value(cached.config.clone())?;
        if network.version < Version::V0_4 {
            return Ok(CheckAnswer::NotAsked("the version of its configuration has no CHECK"));
        }
        if network.disable_check {
            return Ok(CheckAnswer::NotAsked("its configuration says disableCheck"));
        }
        let env = self.env(Some((subject, cached)));
        let extra = Extra {
            capability_args: Some(&cached.capability_args),
            previous: cached.result.as_ref(),
            valid: None,
        };
        for plugin in &network.plugins {
            self.call(&network, plugin, "CHECK", &env, extra).await?;
        }
        Ok(CheckAnswer::Whole)
    }

    /// STATUS, where the version has it.
    pub(super) async fn ask_status(&self, network: &Network) -> Result<(), NetworkError> {
        if network.version < Version::V1_1 {
            return Ok(());
        }
        let env = self.env(None);
        for plugin in &network.plugins {
            self.call(network, plugin, "STATUS", &env, Extra::default()).await?;
        }
        Ok(())
    }

    /// GC, where the version has it: plugins give back everything but these attachments.
    pub(super) async fn call_gc(
        &self,
        network: &Network,
        valid: &Value,
    ) -> Result<(), NetworkError> {
        let env = self.env(None);
        let extra = Extra { valid: Some(valid), ..Extra::default() };
        let mut first = Ok(());
        for plugin in &network.plugins {
            // Each on its own: what one cannot give back is no reason for the others to keep theirs.
            if let Err(error) = self.call(network, plugin, "GC", &env, extra).await
                && first.is_ok()
            {
                first = Err(error);
            }
        }
        first
    }

    /// The versions that the program says it speaks; `None` if it does not say.
    pub(super) async fn ask_versions(&self, program: &Path, kind: &str) -> Option<Vec<String>> {
        let call = Call {
            plugin: kind,
            network: "",
            verb: "VERSION",
            program,
            env: &self.env(None),
            stdin: br#"{"cniVersion":"1.0.0"}"#,
            timeout: self.short(),
        };
        let _slot = self.slots.acquire().await;
        call.run().await.ok().and_then(|output| read_versions(&output))
    }
}
