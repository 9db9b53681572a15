//! NetworkStatus, CheckNetworks and CollectNetworks.

use admin_api::v1;
use pods::{
    CniDirectory, CniNetwork, Found, ModeOverview, NetworkCheck, PluginCall, SubnetOverview,
};
use tonic::{Response, Status};

use crate::runtime::known_sandbox;
use crate::short_ids::To;
use crate::{Services, code};

pub(super) async fn status(
    services: &Services,
) -> Result<Response<v1::NetworkStatusReply>, Status> {
    let overview = services.pods.networks().await.map_err(|error| code::status(&error))?;
    let leftovers = overview.leftovers.into_iter().map(|left| v1::NetworkLeftover {
        sandbox: left.sandbox.to_string(),
        tries: left.tries,
        error: left.why,
    });
    let mut reply = v1::NetworkStatusReply {
        ready: overview.status.ready,
        reason: overview.status.reason.to_string(),
        message: overview.status.message,
        sandboxes: overview.sandboxes as u64,
        leftovers: leftovers.collect(),
        running: overview.running.into_iter().map(running).collect(),
        ..Default::default()
    };
    match overview.mode {
        ModeOverview::None => "none".clone_into(&mut reply.mode),
        ModeOverview::Bridge(bridge) => {
            "bridge".clone_into(&mut reply.mode);
            reply.bridge = bridge.name;
            reply.subnets = bridge.subnets.iter().map(subnet).collect();
        }
        ModeOverview::Cni(cni) => {
            "cni".clone_into(&mut reply.mode);
            reply.directories = cni.directories.into_iter().map(directory).collect();
            let dirs = cni.plugin_dirs.iter().map(|dir| dir.display().to_string());
            reply.plugin_directories = dirs.collect();
        }
    }
    Ok(Response::new(reply))
}

fn running(call: PluginCall) -> v1::RunningPlugin {
    v1::RunningPlugin {
        plugin: call.plugin,
        network: call.network,
        verb: call.verb.to_owned(),
        sandbox: call.sandbox,
        since: call.since.0,
    }
}

fn subnet(given: &SubnetOverview) -> v1::NetworkSubnet {
    v1::NetworkSubnet {
        subnet: given.subnet.to_string(),
        gateway: given.gateway.to_string(),
        used: given.used,
        free: given.free,
    }
}

fn directory(given: CniDirectory) -> v1::NetworkDirectory {
    v1::NetworkDirectory {
        path: given.path.display().to_string(),
        handlers: given.handlers.iter().map(ToString::to_string).collect(),
        networks: given.networks.into_iter().map(network).collect(),
        problem: given.problem.unwrap_or_default(),
    }
}

fn network(given: CniNetwork) -> v1::CniNetwork {
    v1::CniNetwork {
        name: given.name,
        file: given.file.display().to_string(),
        version: given.version,
        plugins: given.plugins,
        missing: given.missing,
    }
}

pub(super) async fn check(
    services: &Services,
    request: &v1::CheckNetworksRequest,
) -> Result<Response<v1::CheckNetworksReply>, Status> {
    let mut named = Vec::new();
    for text in &request.pods {
        named.push(known_sandbox(services, text, To::Look)?);
    }
    let checked = services.pods.check_networks(&named).await;
    let networks = checked.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::CheckNetworksReply {
        networks: networks.into_iter().map(checked_network).collect(),
    }))
}

fn checked_network(given: NetworkCheck) -> v1::CheckedNetwork {
    let (found, detail) = match given.found {
        Found::Whole => (v1::NetworkFound::NetworkWhole, String::new()),
        Found::Unchecked(why) => (v1::NetworkFound::NetworkUnchecked, why),
        Found::Broken(what) => (v1::NetworkFound::NetworkBroken, what),
    };
    v1::CheckedNetwork {
        sandbox: given.sandbox.to_string(),
        pod: given.pod,
        network: given.network,
        interface: given.interface,
        found: found.into(),
        detail,
    }
}

pub(super) async fn collect(
    services: &Services,
) -> Result<Response<v1::CollectNetworksReply>, Status> {
    let collected = services.pods.collect_networks().await;
    let collected = collected.map_err(|error| code::status(&error))?;
    let left = collected.left.into_iter().map(|(sandbox, error)| v1::NetworkLeftover {
        sandbox: sandbox.to_string(),
        tries: 1,
        error,
    });
    Ok(Response::new(v1::CollectNetworksReply {
        freed: collected.freed.iter().map(ToString::to_string).collect(),
        left: left.collect(),
        swept: collected.swept,
        failed: collected.failed,
    }))
}
