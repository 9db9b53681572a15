//! The rules, by topic. Each file ends with its functions; its table says what they show.

mod attach;
mod checkpoint;
mod commands;
mod container_errors;
mod container_list;
mod containers;
mod environment;
mod events;
mod exec;
mod handlers;
mod image_errors;
mod image_list;
mod image_pull;
mod images_removed;
mod isolation;
mod log;
mod metrics;
mod mounts;
mod namespaces;
mod network;
mod port_forward;
mod resources;
mod restart;
mod retry;
mod runtime;
mod sandbox;
mod sandbox_errors;
mod sandbox_list;
mod security;
mod stats;
mod stop;
mod stream_exec;
mod stream_protocol;
mod users;

use crate::case::Case;

/// Every case, in tables.
const TABLES: &[&[Case]] = &[
    runtime::CASES,
    handlers::CASES,
    sandbox::CASES,
    sandbox_errors::CASES,
    sandbox_list::CASES,
    containers::CASES,
    container_errors::CASES,
    container_list::CASES,
    stop::CASES,
    retry::CASES,
    commands::CASES,
    environment::CASES,
    users::CASES,
    exec::CASES,
    log::CASES,
    stream_exec::CASES,
    stream_protocol::CASES,
    attach::CASES,
    port_forward::CASES,
    image_pull::CASES,
    image_list::CASES,
    image_errors::CASES,
    images_removed::CASES,
    namespaces::CASES,
    network::CASES,
    security::CASES,
    isolation::CASES,
    mounts::CASES,
    resources::CASES,
    stats::CASES,
    metrics::CASES,
    events::CASES,
    checkpoint::CASES,
    restart::CASES,
];

/// Every case of the suite, by topic.
pub fn all() -> impl Iterator<Item = &'static Case> {
    TABLES.iter().flat_map(|table| table.iter())
}
