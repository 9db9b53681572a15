//! The daemon's memory during the pull of a large image.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use testkit::{Blob, Daemon, Registry};

use super::{MIB, fresh, pull};
use crate::samples::{Samples, line};

/// 2 GiB on the wire.
const LAYERS: usize = 8;
const FILES: usize = 4;
const FILE: usize = 64 * MIB;
/// How much more than at rest the daemon may have, in kilobytes.
const PROMISED: u64 = 60_000;
const EVERY: Duration = Duration::from_millis(20);
const NAME: &str = "bench/huge";

pub async fn measure(daemon: &Daemon, registry: &Registry, random: &mut Rng) {
    let reference = push(registry, random);
    // What is freed late goes back first.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let rest = Memory::of(daemon.pid());
    let most = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let (pid, seen) = (daemon.pid(), Arc::clone(&most));
    let watch = tokio::spawn(async move {
        loop {
            let now = Memory::of(pid);
            seen[0].fetch_max(now.anonymous, Ordering::Relaxed);
            seen[1].fetch_max(now.share, Ordering::Relaxed);
            tokio::time::sleep(EVERY).await;
        }
    });
    let mut took = Samples::default();
    took.add(pull(&mut daemon.images(), &reference).await);
    watch.abort();
    took.print("pull of 2 GiB in 8 gzip layers", None);
    let more = |at: usize, rest: u64| most[at].load(Ordering::Relaxed).saturating_sub(rest);
    let (anonymous, share) = (more(0, rest.anonymous), more(1, rest.share));
    let verdict = if share <= PROMISED { "kept" } else { "BROKEN" };
    line(
        "  the daemon's memory above that at rest (Pss)",
        &format!("{:.1} MB", share as f64 / 1000.0),
        Some(format!("promised 60 MB at most: {verdict}")),
    );
    line("  of it anonymous", &format!("{:.1} MB", anonymous as f64 / 1000.0), None);
    fresh(daemon, &reference);
}

/// What a process has in memory, in kilobytes.
struct Memory {
    anonymous: u64,
    /// Pages of several processes in parts.
    share: u64,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let text = text.expect("a daemon that runs");
        let figure = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Self { anonymous: figure("Anonymous:"), share: figure("Pss:") }
    }
}

/// Puts the image into the registry's own store, piece by piece: nothing of it is whole in memory.
fn push(registry: &Registry, random: &mut Rng) -> String {
    // A file is the same mebibyte over and over, compressed once: members of gzip may follow each other.
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(MIB).collect();
    let mut layers = Vec::new();
    for number in 0..LAYERS {
        let name = format!("data-{number}");
        let layer = registry.push_large_layer(NAME, (&name, FILES), (&noise, FILE / MIB));
        layers.push(layer.expect("the registry's store can be written"));
    }
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let kind = "application/vnd.oci.image.config.v1+json";
    let config = Blob::new(kind, config.to_string().into_bytes());
    registry.push_blob(&config, NAME);
    let descriptors: Vec<_> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": kind,
        "config": config.descriptor(),
        "layers": descriptors,
    });
    let manifest = Blob::new(kind, manifest.to_string().into_bytes());
    registry.push_manifest(&manifest, NAME, "1");
    registry.reference(&format!("{NAME}:1"))
}
