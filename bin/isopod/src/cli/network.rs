//! `isopod network status`, `isopod network check` and `isopod network gc`.

use admin_api::v1::{
    CheckNetworksRequest, CheckedNetwork, CniNetwork, CollectNetworksReply, CollectNetworksRequest,
    NetworkDirectory, NetworkFound, NetworkLeftover, NetworkStatusReply, NetworkStatusRequest,
};
use serde_json::{Value, json};

use super::failure::{Doing, EXIT_FAILURE, Failure, Outcome};
use super::find;
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{age, now, short};

/// Free addresses past which their number says nothing to people.
const COUNTED: u64 = 1_000_000_000;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show what the networks of pods are, whether they are ready, and what they have
    Status,
    /// Look whether pods still have what they got of their networks
    Check {
        /// Names, ids, or beginnings of ids; all pods that are ready where none is given
        #[arg(value_name = "POD")]
        pods: Vec<String>,
    },
    /// Give back what networks hold for no pod
    Gc,
}

/// Does it.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    match &args.what {
        What::Status => status(node, form).await,
        What::Check { pods } => check(node, pods, form).await,
        What::Gc => collect(node, form).await,
    }
}

/// Ends with 1 while pods cannot get a network.
async fn status(node: &Node, form: Form) -> Outcome {
    let answer = node.admin().network_status(NetworkStatusRequest {}).await;
    let reply = answer.doing("read the networks' status")?.into_inner();
    if form == Form::Table {
        tell_status(&reply)?;
    } else {
        print::value(&status_json(&reply), form)?;
    }
    Ok(u8::from(!reply.ready))
}

fn tell_status(reply: &NetworkStatusReply) -> Result<(), Failure> {
    let mut rows = Rows::new(&["MODE", "READY", "REASON", "MESSAGE", "PODS"]);
    rows.add([
        reply.mode.clone(),
        reply.ready.to_string(),
        reply.reason.clone(),
        reply.message.replace('\n', " "),
        reply.sandboxes.to_string(),
    ]);
    rows.print()?;
    if !reply.subnets.is_empty() {
        print::line("")?;
        let mut rows = Rows::new(&["BRIDGE", "SUBNET", "GATEWAY", "USED", "FREE"]);
        for subnet in &reply.subnets {
            let free = match subnet.free {
                0..COUNTED => subnet.free.to_string(),
                COUNTED.. => format!("more than {COUNTED}"),
            };
            let (used, bridge) = (subnet.used.to_string(), reply.bridge.clone());
            rows.add([bridge, subnet.subnet.clone(), subnet.gateway.clone(), used, free]);
        }
        rows.print()?;
    }
    if !reply.directories.is_empty() {
        print::line("")?;
        let mut rows = Rows::new(&["NETWORK", "CNI", "PLUGINS", "CONFIGURATION", "HANDLERS"]);
        reply.directories.iter().flat_map(network_rows).for_each(|row| rows.add(row));
        rows.print()?;
        print::line(&format!("\nplugins are in {}", reply.plugin_directories.join(", ")))?;
    }
    if !reply.leftovers.is_empty() {
        print::line("\nleft of pods that are gone, and tried again:")?;
        let mut rows = Rows::new(&["POD ID", "TRIES", "WHY"]);
        for left in &reply.leftovers {
            let NetworkLeftover { sandbox, tries, error } = left;
            rows.add([short(sandbox).to_owned(), tries.to_string(), error.clone()]);
        }
        rows.print()?;
    }
    if !reply.running.is_empty() {
        print::line("\nplugins that run:")?;
        let mut rows = Rows::new(&["PLUGIN", "VERB", "NETWORK", "POD ID", "FOR"]);
        let now = now();
        for call in &reply.running {
            let names = [&call.plugin, &call.verb, &call.network].map(Clone::clone);
            let rest = [short(&call.sandbox).to_owned(), age(call.since, now)];
            rows.add(names.into_iter().chain(rest));
        }
        rows.print()?;
    }
    Ok(())
}

/// A row for each network of a directory, or one that says why there is none.
fn network_rows(directory: &NetworkDirectory) -> Vec<[String; 5]> {
    let handlers = match directory.handlers.as_slice() {
        [] => "(default)".to_owned(),
        named => named.join(", "),
    };
    if directory.networks.is_empty() {
        let place = format!("{}: {}", directory.path, directory.problem);
        return vec![["-".to_owned(), "-".to_owned(), "-".to_owned(), place, handlers]];
    }
    let row = |network: &CniNetwork| {
        let is_missing = |plugin: &String| network.missing.contains(plugin);
        let named = network.plugins.iter().map(|plugin| {
            if is_missing(plugin) { format!("{plugin} (missing)") } else { plugin.clone() }
        });
        [
            network.name.clone(),
            network.version.clone(),
            named.collect::<Vec<_>>().join(", "),
            network.file.clone(),
            handlers.clone(),
        ]
    };
    directory.networks.iter().map(row).collect()
}

fn status_json(reply: &NetworkStatusReply) -> Value {
    let subnets: Vec<Value> = reply
        .subnets
        .iter()
        .map(
            |s| json!({ "subnet": s.subnet, "gateway": s.gateway, "used": s.used, "free": s.free }),
        )
        .collect();
    let network = |n: &CniNetwork| {
        json!({
            "name": n.name, "file": n.file, "cniVersion": n.version,
            "plugins": n.plugins, "missing": n.missing,
        })
    };
    let directories: Vec<Value> = reply
        .directories
        .iter()
        .map(|d| {
            let networks: Vec<Value> = d.networks.iter().map(network).collect();
            json!({ "path": d.path, "handlers": d.handlers, "networks": networks, "problem": d.problem })
        })
        .collect();
    let running: Vec<Value> = reply
        .running
        .iter()
        .map(|r| {
            json!({
                "plugin": r.plugin, "network": r.network, "verb": r.verb, "sandbox": r.sandbox,
                "since": r.since,
            })
        })
        .collect();
    json!({
        "mode": reply.mode,
        "ready": reply.ready,
        "reason": reply.reason,
        "message": reply.message,
        "bridge": reply.bridge,
        "subnets": subnets,
        "directories": directories,
        "pluginDirectories": reply.plugin_directories,
        "sandboxes": reply.sandboxes,
        "leftovers": reply.leftovers.iter().map(leftover_json).collect::<Vec<_>>(),
        "running": running,
    })
}

fn leftover_json(left: &NetworkLeftover) -> Value {
    json!({ "sandbox": left.sandbox, "tries": left.tries, "error": left.error })
}

/// Ends with 1 while something is missing.
async fn check(node: &Node, named: &[String], form: Form) -> Outcome {
    let mut pods = Vec::new();
    for text in named {
        pods.push(find::sandbox(node, text).await?.id);
    }
    let answer = node.admin().check_networks(CheckNetworksRequest { pods }).await;
    let networks = answer.doing("check the networks of pods")?.into_inner().networks;
    let is_broken = networks.iter().any(|one| one.found() == NetworkFound::NetworkBroken);
    if form == Form::Table {
        let mut rows = Rows::new(&["POD ID", "POD", "NETWORK", "INTERFACE", "FOUND"]);
        for one in &networks {
            let or_dash = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
            let found = match one.found() {
                NetworkFound::NetworkWhole => "ok".to_owned(),
                NetworkFound::NetworkUnchecked => format!("not checked: {}", one.detail),
                NetworkFound::NetworkBroken => one.detail.replace('\n', " "),
            };
            let id = short(&one.sandbox).to_owned();
            let names = [or_dash(&one.network), or_dash(&one.interface)];
            rows.add([id, one.pod.clone()].into_iter().chain(names).chain([found]));
        }
        rows.print()?;
    } else {
        print::value(&Value::Array(networks.iter().map(checked_json).collect()), form)?;
    }
    Ok(if is_broken { EXIT_FAILURE } else { 0 })
}

fn checked_json(one: &CheckedNetwork) -> Value {
    json!({
        "sandbox": one.sandbox,
        "pod": one.pod,
        "network": one.network,
        "interface": one.interface,
        "found": one.found().as_str_name(),
        "detail": one.detail,
    })
}

/// Ends with 1 where something could not be given back.
async fn collect(node: &Node, form: Form) -> Outcome {
    let answer = node.admin().collect_networks(CollectNetworksRequest {}).await;
    let reply = answer.doing("give back what networks hold for no pod")?.into_inner();
    let CollectNetworksReply { freed, left, swept, failed } = &reply;
    let code = if left.is_empty() && failed.is_empty() { 0 } else { EXIT_FAILURE };
    if form != Form::Table {
        let left: Vec<Value> = left.iter().map(leftover_json).collect();
        let value = json!({ "freed": freed, "left": left, "swept": swept, "failed": failed });
        print::value(&value, form)?;
        return Ok(code);
    }
    for sandbox in freed {
        print::line(&format!("freed: all that pod {} had", short(sandbox)))?;
    }
    for one in swept {
        print::line(&format!("swept: {one}"))?;
    }
    for one in left {
        let NetworkLeftover { sandbox, error, .. } = one;
        print::line(&format!("left: of pod {}, and tried again: {error}", short(sandbox)))?;
    }
    for error in failed {
        print::line(&format!("failed: {error}"))?;
    }
    let [freed, swept, left] = [freed.len(), swept.len(), left.len()];
    print::line(&format!("{freed} pods freed, {swept} other things swept, {left} pods left"))?;
    Ok(code)
}
