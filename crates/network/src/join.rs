//! Joining and leaving networks: record, make, and undo what was made.

use std::sync::Arc;

use model::SandboxId;
use serde_json::Value;

use crate::attachment::{Attached, Attachment};
use crate::bridge::{kernel, rules};
use crate::cni::{Cni, Outcome, Subject, end_strays, read_result};
use crate::error::NetworkError;
use crate::netlink::Socket;
use crate::networks::{Backend, Inner, blocking};
use crate::ports;
use crate::record::{Cached, Joined, Ports, SandboxRecord};

/// The nftables table of host ports for networks whose plugins make none.
pub(crate) const PORTS_TABLE: &str = "isopod_ports";

impl Inner {
    pub(crate) async fn put(&self, record: &SandboxRecord) -> Result<(), NetworkError> {
        let (records, mut record) = (self.records.clone(), record.clone());
        blocking("writing a network record", move || records.put(&mut record)).await
    }

    async fn recorded(&self, attachment: &Attachment) -> Result<SandboxRecord, NetworkError> {
        let (records, sandbox) = (self.records.clone(), attachment.sandbox.clone());
        let found = blocking("reading a network record", move || records.get(&sandbox)).await?;
        let new = || self.records.new_record(&attachment.sandbox, attachment.netns.clone());
        Ok(found.unwrap_or_else(new))
    }

    /// All networks, or nothing is left; what cannot be undone now stays in the record and is tried again.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        attachment: Attachment,
    ) -> Result<Attached, NetworkError> {
        let _lock = self.locks.lock(&attachment.sandbox).await;
        let mut record = self.recorded(&attachment).await?;
        if !record.joined.is_empty() {
            // Of an attempt that did not come to its end.
            self.leave(&mut record).await?;
        }
        record.netns.clone_from(&attachment.netns);
        let made = match &self.backend {
            Backend::None => {
                return Ok(Attached {
                    ips: Vec::new(),
                    interfaces: Vec::new(),
                    result: Value::Array(Vec::new()),
                });
            }
            Backend::Bridge(_) => self.attach_bridge(&attachment, &mut record).await,
            Backend::Cni(cni) => self.attach_cni(cni, &attachment, &mut record).await,
        };
        let error = match made {
            Ok(attached) => return Ok(attached),
            Err(error) => error,
        };
        if !record.joined.is_empty()
            && let Err(undo) = self.leave(&mut record).await
        {
            tracing::warn!(sandbox = %record.sandbox, error = %undo, "what was made could not be undone; it is tried again");
            self.retry_later(record.sandbox.clone(), Some(&undo));
        }
        Err(error)
    }

    async fn attach_bridge(
        self: &Arc<Self>,
        attachment: &Attachment,
        record: &mut SandboxRecord,
    ) -> Result<Attached, NetworkError> {
        let (this, attachment, mut draft) = (Arc::clone(self), attachment.clone(), record.clone());
        let (draft, made) = blocking("joining the bridge", move || {
            let Backend::Bridge(bridge) = &this.backend else {
                return Err(NetworkError::Lost { operation: "joining the bridge" });
            };
            bridge.ensure(|| this.records.all())?;
            let lease = bridge.reserve(&attachment)?;
            draft.joined = vec![Joined::Bridge(lease.clone())];
            if let Err(error) = this.records.put(&mut draft) {
                bridge.give_back(&lease);
                return Err(error);
            }
            let made = bridge.attach(&attachment, &lease);
            Ok((draft, made))
        })
        .await?;
        *record = draft;
        made
    }

    async fn attach_cni(
        self: &Arc<Self>,
        cni: &Arc<Cni>,
        attachment: &Attachment,
        record: &mut SandboxRecord,
    ) -> Result<Attached, NetworkError> {
        let plan = cni.plan(attachment)?;
        let _adding = self.adding.read().await;
        let joined = plan.iter().cloned().map(Joined::Cni).collect();
        let draft = SandboxRecord { joined, ..record.clone() };
        if !attachment.port_mappings.is_empty() {
            self.claim(&draft, &attachment.port_mappings).await?;
        } else {
            self.put(&draft).await?;
        }
        *record = draft;
        let shared = Arc::new(tokio::sync::Mutex::new(record.clone()));
        let mut running = tokio::task::JoinSet::new();
        for (number, cached) in plan.into_iter().enumerate() {
            let notes = Notes { inner: Arc::clone(self), record: Arc::clone(&shared), number };
            let (cni, attachment) = (Arc::clone(cni), attachment.clone());
            running.spawn(async move { add_chain(&cni, &attachment, &cached, &notes).await });
        }
        let mut failed = None;
        while let Some(done) = running.join_next().await {
            let done = done.unwrap_or(Err(NetworkError::Lost { operation: "CNI ADD" }));
            failed = failed.or(done.err());
        }
        // Results before errors: DEL is told what is known.
        *record = shared.lock().await.clone();
        failed.map_or(Ok(()), Err)?;
        let attached = read_results(record)?;
        self.own_ports(attachment, record, &attached).await?;
        Ok(attached)
    }

    /// Host ports for a network whose plugins make none.
    async fn own_ports(
        self: &Arc<Self>,
        attachment: &Attachment,
        record: &mut SandboxRecord,
        attached: &Attached,
    ) -> Result<(), NetworkError> {
        let mapped = record
            .joined
            .iter()
            .any(|j| matches!(j, Joined::Cni(cached) if Cni::maps_ports(cached)));
        if mapped || attachment.port_mappings.is_empty() {
            return Ok(());
        }
        let ports = Ports { ips: attached.ips.clone(), ports: attachment.port_mappings.clone() };
        record.joined.push(Joined::Ports(ports.clone()));
        self.put(record).await?;
        let (this, sandbox) = (Arc::clone(self), attachment.sandbox.clone());
        blocking("opening host ports", move || {
            let mut netfilter =
                Socket::netfilter().map_err(kernel("open", "a netfilter socket"))?;
            this.own_ports_table(&mut netfilter, &sandbox)?;
            crate::bridge::serve_loopback(&ports.ips)?;
            ports::open(&mut netfilter, PORTS_TABLE, &sandbox, &ports.ips, &ports.ports)
        })
        .await
    }

    fn own_ports_table(&self, netfilter: &mut Socket, but: &SandboxId) -> Result<(), NetworkError> {
        let failed = kernel("make table", PORTS_TABLE);
        let before =
            rules::owner(netfilter, PORTS_TABLE).map_err(kernel("look up table", PORTS_TABLE))?;
        if before == rules::Owner::Us {
            return Ok(());
        }
        rules::install_ports(netfilter, PORTS_TABLE).map_err(|e| failed(e.source))?;
        // Somebody flushed all rules: those of other sandboxes are gone too.
        for record in self.records.all()?.into_iter().filter(|record| record.sandbox != *but) {
            for joined in &record.joined {
                let Joined::Ports(lost) = joined else { continue };
                if let Err(error) =
                    ports::open(netfilter, PORTS_TABLE, &record.sandbox, &lost.ips, &lost.ports)
                {
                    tracing::debug!(sandbox = %record.sandbox, %error, "host ports are not opened again");
                }
            }
        }
        Ok(())
    }

    /// Leaves all networks of the record, the last one first; the record says at each time what is left.
    pub(crate) async fn leave(
        self: &Arc<Self>,
        record: &mut SandboxRecord,
    ) -> Result<(), NetworkError> {
        let unfinished =
            |joined: &Joined| matches!(joined, Joined::Cni(cached) if cached.result.is_none());
        if !self.records.is_ours(record) && record.joined.iter().any(unfinished) {
            let sandbox = record.sandbox.clone();
            blocking("ending plugins of an earlier daemon", move || {
                end_strays(&sandbox).map_err(kernel("end", "plugins of an earlier daemon"))
            })
            .await?;
        }
        while let Some(joined) = record.joined.last().cloned() {
            self.leave_one(record, &joined).await?;
            record.joined.pop();
            self.put(record).await?;
            if let (Joined::Bridge(lease), Backend::Bridge(bridge)) = (&joined, &self.backend) {
                bridge.give_back(lease);
            }
        }
        Ok(())
    }

    async fn leave_one(
        self: &Arc<Self>,
        record: &SandboxRecord,
        joined: &Joined,
    ) -> Result<(), NetworkError> {
        let (this, sandbox, netns) =
            (Arc::clone(self), record.sandbox.clone(), record.netns.clone());
        match joined.clone() {
            Joined::Cni(cached) => {
                // A record of another mode has to be given back all the same.
                let cni = this.plugins()?;
                cni.delete(Subject::of(&sandbox, &netns), &cached).await
            }
            Joined::Bridge(lease) => {
                blocking("leaving the bridge", move || crate::bridge::release(&sandbox, &lease))
                    .await
            }
            Joined::Ports(opened) => {
                blocking("closing host ports", move || {
                    let mut netfilter =
                        Socket::netfilter().map_err(kernel("open", "a netfilter socket"))?;
                    ports::close(&mut netfilter, PORTS_TABLE, sandbox.as_str(), &opened.ports)
                        .map_err(kernel("close", "host ports"))
                })
                .await
            }
        }
    }

    /// Leaves the networks that are recorded, or, where the record is lost, those of `result`.
    pub(crate) async fn detach(
        self: &Arc<Self>,
        attachment: Attachment,
        result: Option<Value>,
    ) -> Result<(), NetworkError> {
        let _lock = self.locks.lock(&attachment.sandbox).await;
        let mut record = self.recorded(&attachment).await?;
        if record.joined.is_empty()
            && let Some(result) = result
        {
            // What was given back already is given back once more, which is no error.
            record.joined = serde_json::from_value(result).unwrap_or_default();
        }
        if record.joined.is_empty() {
            return Ok(());
        }
        let left = self.leave(&mut record).await;
        if let Err(error) = &left {
            self.put(&record).await?;
            self.retry_later(record.sandbox.clone(), Some(error));
        }
        left
    }
}

/// Where a chain's results are recorded, one after the other.
#[derive(Debug)]
struct Notes {
    inner: Arc<Inner>,
    record: Arc<tokio::sync::Mutex<SandboxRecord>>,
    number: usize,
}

impl Notes {
    async fn write(
        &self,
        partial: Option<Value>,
        result: Option<Value>,
    ) -> Result<(), NetworkError> {
        let mut record = self.record.lock().await;
        if let Some(Joined::Cni(cached)) = record.joined.get_mut(self.number) {
            (cached.partial, cached.result) = (partial, result);
        }
        self.inner.put(&record).await
    }
}

/// ADD over a chain of plugins.
async fn add_chain(
    cni: &Cni,
    attachment: &Attachment,
    cached: &Cached,
    notes: &Notes,
) -> Result<(), NetworkError> {
    let subject = Subject::of(&attachment.sandbox, &attachment.netns);
    let mut previous: Option<Value> = None;
    for place in 0.. {
        let Some(added) = cni.add(subject, cached, place, previous.as_ref()).await? else { break };
        let (partial, result) = match added.is_last {
            true => (None, Some(added.result.clone())),
            false => (Some(added.result.clone()), None),
        };
        notes.write(partial, result).await?;
        previous = Some(added.result);
    }
    Ok(())
}

/// What the results of all networks say together.
fn read_results(record: &SandboxRecord) -> Result<Attached, NetworkError> {
    let mut attached = Attached {
        ips: Vec::new(),
        interfaces: Vec::new(),
        result: serde_json::to_value(&record.joined)
            .map_err(|e| NetworkError::Config { reason: e.to_string() })?,
    };
    for (number, joined) in record.joined.iter().enumerate() {
        let Joined::Cni(cached) = joined else { continue };
        let outcome = outcome(cached).and_then(|outcome| {
            // Networks after the first may have no addresses; the first is the pod's.
            if number == 0 && outcome.ips.is_empty() {
                Err("it succeeded without an address".to_owned())
            } else {
                Ok(outcome)
            }
        });
        let outcome = outcome.map_err(|how| NetworkError::PluginBroken {
            plugin: last_plugin(cached),
            network: cached.network_name.clone(),
            verb: "ADD",
            how,
            stderr: String::new(),
        })?;
        if number == 0 {
            attached.ips = outcome.ips;
        }
        attached.interfaces.extend(outcome.interfaces);
    }
    Ok(attached)
}

fn outcome(cached: &Cached) -> Result<Outcome, String> {
    read_result(cached.result.as_ref().unwrap_or(&Value::Null), &cached.if_name)
}

/// The plugin whose result is the network's.
fn last_plugin(cached: &Cached) -> String {
    let plugins = cached.config.get("plugins").and_then(Value::as_array);
    let last = plugins.and_then(|all| all.last()).and_then(|plugin| plugin.get("type"));
    last.and_then(Value::as_str).unwrap_or_default().to_owned()
}
