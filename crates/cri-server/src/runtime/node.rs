//! Version, Status, RuntimeConfig, UpdateRuntimeConfig.

use cri_api::v1;
use serde_json::json;
use tonic::{Response, Status};

use super::Answer;
use crate::{CgroupDriver, Condition, Services};

pub(super) fn version(_services: &Services) -> Answer<v1::VersionResponse> {
    Ok(Response::new(v1::VersionResponse {
        // The version of this message, which never changed.
        version: "0.1.0".to_owned(),
        runtime_name: "isopod".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: cri_api::API_VERSION.to_owned(),
    }))
}

/// Conditions are the truth of this moment, or of the last seconds. A self-check that has none of them to tell is
/// waited for, for a moment.
pub(super) async fn status(
    services: &Services,
    request: v1::StatusRequest,
) -> Answer<v1::StatusResponse> {
    services.pods.check_anew().await;
    let handlers = services.host.handlers();
    let mut answer = v1::StatusResponse {
        status: Some(v1::RuntimeStatus {
            conditions: vec![
                condition("RuntimeReady", services.host.runtime()),
                condition("NetworkReady", services.host.network()),
            ],
        }),
        runtime_handlers: handlers
            .iter()
            .map(|handler| v1::RuntimeHandler {
                name: handler.name.as_str().to_owned(),
                features: Some(v1::RuntimeHandlerFeatures {
                    recursive_read_only_mounts: handler.recursive_read_only_mounts,
                    user_namespaces: handler.user_namespaces,
                }),
            })
            .collect(),
        features: Some(v1::RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: handlers.iter().all(|handler| handler.user_namespaces),
            mount_options: true,
        }),
        ..Default::default()
    };
    if request.verbose {
        answer.info = [
            ("config".to_owned(), services.host.configuration().to_string()),
            ("counts".to_owned(), counts(services).to_string()),
            ("operations".to_owned(), json!(services.operations.list()).to_string()),
            ("owed".to_owned(), json!(services.pods.owed()).to_string()),
        ]
        .into();
    }
    Ok(Response::new(answer))
}

fn condition(kind: &str, is: Condition) -> v1::RuntimeCondition {
    v1::RuntimeCondition {
        r#type: kind.to_owned(),
        status: is.holds,
        reason: is.reason,
        message: is.message,
    }
}

fn counts(services: &Services) -> serde_json::Value {
    json!({
        "sandboxes": services.pods.list_sandboxes(&pods::SandboxFilter::default()).len(),
        "containers": services.pods.list_containers(&pods::ContainerFilter::default()).len(),
        "images": services.images.list(None).map(|all| all.len()).unwrap_or_default(),
    })
}

pub(super) fn runtime_config(services: &Services) -> Answer<v1::RuntimeConfigResponse> {
    let driver = match services.host.cgroup_driver() {
        CgroupDriver::Systemd => v1::CgroupDriver::Systemd,
        CgroupDriver::Cgroupfs => v1::CgroupDriver::Cgroupfs,
    };
    let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: driver.into() };
    Ok(Response::new(v1::RuntimeConfigResponse { linux: Some(linux) }))
}

pub(super) async fn update_runtime_config(
    services: &Services,
    request: v1::UpdateRuntimeConfigRequest,
) -> Answer<v1::UpdateRuntimeConfigResponse> {
    let network = request.runtime_config.and_then(|config| config.network_config);
    if let Some(network) = network.filter(|network| !network.pod_cidr.is_empty()) {
        services.host.set_pod_cidrs(network.pod_cidr).await?;
    }
    Ok::<_, Status>(Response::new(v1::UpdateRuntimeConfigResponse {}))
}
