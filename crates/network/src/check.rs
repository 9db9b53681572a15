//! Whether a sandbox still has what it got when it joined its networks.
//!
//! Always: nothing is changed; each network is looked at whatever was found of the others.

use std::io;
use std::sync::Arc;

use serde_json::Value;

use crate::attachment::Attachment;
use crate::bridge::{self, INSIDE, kernel};
use crate::cni::{CheckAnswer, Subject};
use crate::error::NetworkError;
use crate::join::PORTS_TABLE;
use crate::netlink::Socket;
use crate::netns::is_pinned;
use crate::networks::{Backend, Inner, blocking};
use crate::ports;
use crate::record::{Joined, Lease, Ports};

/// A network of a sandbox, and what was found of it.
#[derive(Debug)]
pub struct Checked {
    /// The network's name; empty for what concerns all networks of the sandbox.
    pub network: String,
    /// The interface inside; empty where there is none in particular.
    pub interface: String,
    /// What was found.
    pub verdict: Verdict,
}

/// What was found of a network.
#[derive(Debug)]
pub enum Verdict {
    /// It is as it was left.
    Whole,
    /// Nobody could tell, for this reason.
    Unchecked(&'static str),
    /// Something is missing.
    Broken(NetworkError),
}

impl From<Result<(), NetworkError>> for Verdict {
    fn from(checked: Result<(), NetworkError>) -> Self {
        checked.map_or_else(Self::Broken, |()| Self::Whole)
    }
}

impl Checked {
    fn of_all(broken: NetworkError) -> Self {
        let verdict = Verdict::Broken(broken);
        Self { network: String::new(), interface: String::new(), verdict }
    }
}

impl Inner {
    /// One entry for each network, after those for what concerns all of them.
    pub(crate) async fn check(
        self: &Arc<Self>,
        attachment: Attachment,
        result: Option<Value>,
    ) -> Result<Vec<Checked>, NetworkError> {
        let _lock = self.locks.lock(&attachment.sandbox).await;
        let (records, sandbox) = (self.records.clone(), attachment.sandbox.clone());
        let pin = attachment.netns.clone();
        let (record, has_pin) = blocking("reading a network record", move || {
            Ok((records.get(&sandbox)?, is_pinned(&pin)))
        })
        .await?;
        let mut all = Vec::new();
        let is_lost = record.is_none();
        let mut joined = record.map(|record| record.joined).unwrap_or_default();
        if joined.is_empty() {
            joined =
                result.and_then(|result| serde_json::from_value(result).ok()).unwrap_or_default();
        }
        if is_lost {
            let sandbox = attachment.sandbox.to_string();
            all.push(Checked::of_all(NetworkError::NoRecord { sandbox }));
        }
        if !has_pin {
            let path = attachment.netns.clone();
            let source = io::ErrorKind::NotFound.into();
            all.push(Checked::of_all(NetworkError::Netns { operation: "find", path, source }));
            // Without it there is nothing to look into, and plugins would say so one after the other.
            return Ok(all);
        }
        if joined.is_empty() {
            let network = "loopback".to_owned();
            let verdict = match self.backend {
                Backend::None => Verdict::Whole,
                Backend::Bridge(_) | Backend::Cni(_) => {
                    Verdict::Unchecked("it was made when there was loopback only")
                }
            };
            all.push(Checked { network, interface: "lo".to_owned(), verdict });
        }
        for joined in joined {
            all.push(self.check_one(&attachment, joined).await);
        }
        Ok(all)
    }

    async fn check_one(self: &Arc<Self>, attachment: &Attachment, joined: Joined) -> Checked {
        let attachment = attachment.clone();
        match joined {
            Joined::Cni(cached) => {
                let subject = Subject::of(&attachment.sandbox, &attachment.netns);
                // A record of another mode is checked by its plugins all the same.
                let asked = async { self.plugins()?.check(subject, &cached).await }.await;
                let verdict = match asked {
                    Ok(CheckAnswer::Whole) => Verdict::Whole,
                    Ok(CheckAnswer::NotAsked(why)) => Verdict::Unchecked(why),
                    Err(error) => Verdict::Broken(error),
                };
                Checked { network: cached.network_name, interface: cached.if_name, verdict }
            }
            Joined::Bridge(lease) => {
                let network = lease.bridge.clone();
                let checked =
                    blocking("checking the bridge", move || check_bridge(&attachment, &lease));
                let verdict = checked.await.into();
                Checked { network, interface: INSIDE.to_owned(), verdict }
            }
            Joined::Ports(ports) => {
                let checked = blocking("checking host ports", move || {
                    check_ports(PORTS_TABLE, &attachment, &ports)
                });
                let verdict = checked.await.into();
                Checked { network: "host ports".to_owned(), interface: String::new(), verdict }
            }
        }
    }
}

fn check_bridge(attachment: &Attachment, lease: &Lease) -> Result<(), NetworkError> {
    bridge::check(attachment, lease)?;
    let ports = Ports { ips: lease.ips.clone(), ports: lease.ports.clone() };
    check_ports(&lease.bridge, attachment, &ports)
}

fn check_ports(table: &str, attachment: &Attachment, given: &Ports) -> Result<(), NetworkError> {
    if given.ports.is_empty() {
        return Ok(());
    }
    let mut netfilter = Socket::netfilter().map_err(kernel("open", "a netfilter socket"))?;
    let closed =
        ports::closed(&mut netfilter, table, &attachment.sandbox, &given.ips, &given.ports);
    let closed = closed.map_err(kernel("list host ports in table", table))?;
    if closed.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = closed.iter().map(ToString::to_string).collect();
    let object = format!("host port {} in table {table}", named.join(", "));
    Err(kernel("find", &object)(io::ErrorKind::NotFound.into()))
}
