//! What the configuration says of containers: devices of vendors, classes, profiles and labels.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use pods::{BlockIoClass, Classes, ExecCpus, RdtClass, WritableLimits};

use super::kind;
use super::rules::Reader;

/// Settings of containers.
#[derive(Debug, Clone)]
pub struct ContainerSettings {
    /// Directories of CDI specs.
    pub cdi_dirs: Vec<PathBuf>,
    /// Classes of containers.
    pub classes: Classes,
    /// How many tasks a container may have.
    pub pids_limit: Option<i64>,
    /// The AppArmor profile that is the runtime's default.
    pub apparmor_profile: Option<String>,
    /// Whether containers get SELinux labels where the host has SELinux.
    pub selinux_labels: bool,
    /// How much they may write.
    pub writable: WritableLimits,
    /// Project ids for them.
    pub projects: RangeInclusive<u32>,
}

pub(super) fn settings(reader: &mut Reader<'_>) -> ContainerSettings {
    let entries = reader.entries;
    let paths = entries.texts(&["cdi", "spec_dirs"]);
    let pids = entries.whole(&["pods", "pids_limit"]);
    ContainerSettings {
        cdi_dirs: paths.into_iter().map(PathBuf::from).collect(),
        classes: classes(reader),
        pids_limit: i64::try_from(pids).ok().filter(|limit| *limit > 0),
        apparmor_profile: said(entries.text(&["pods", "apparmor_profile"])),
        selinux_labels: entries.text(&["pods", "selinux"]) == "auto",
        writable: writable(reader),
        projects: projects(reader),
    }
}

fn writable(reader: &mut Reader<'_>) -> WritableLimits {
    let bytes = |key| Some(reader.entries.whole(&["pods", key])).filter(|bytes| *bytes > 0);
    let limits = WritableLimits { size: bytes("writable_size"), max: bytes("writable_max") };
    if limits.size.zip(limits.max).is_some_and(|(size, max)| size > max) {
        let problem = "`pods.writable_size` is more than `pods.writable_max`".to_owned();
        reader.mistake(&["pods", "writable_size"], problem);
    }
    limits
}

fn projects(reader: &mut Reader<'_>) -> RangeInclusive<u32> {
    let at = ["pods", "writable_projects"];
    let text = reader.entries.text(&at);
    let ids = text.split_once('-').and_then(|(first, last)| {
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse::<u32>().ok()?)
    });
    // 0 is what everything has that is in no project, and the last number is no id.
    let is_range =
        |ids: &RangeInclusive<u32>| *ids.start() > 0 && *ids.end() < u32::MAX && !ids.is_empty();
    ids.filter(is_range).unwrap_or_else(|| {
        let problem = format!(
            "`pods.writable_projects` is {text:?}: two numbers above 0 such as \"5000-5999\" are needed"
        );
        reader.mistake(&at, problem);
        1..=1
    })
}

fn said(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn classes(reader: &mut Reader<'_>) -> Classes {
    let mut classes = Classes {
        rdt_default: said(reader.entries.text(&["rdt", "default"])),
        block_io_default: said(reader.entries.text(&["block_io", "default"])),
        exec_cpus: exec_cpus(reader),
        ..Classes::default()
    };
    for name in reader.entries.names("rdt.classes") {
        let at = |key| reader.entries.text(&["rdt", "classes", &name, key]);
        let class = RdtClass { l3: at("l3"), bandwidth: at("bandwidth") };
        let is_plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        // The kernel has these itself.
        let is_taken =
            name.starts_with('.') || matches!(name.as_str(), "info" | "mon_groups" | "mon_data");
        if !is_plain || is_taken {
            let problem = format!("{name:?} cannot be the name of an RDT class");
            reader.mistake(&["rdt", "classes", &name, "l3"], problem);
        }
        for (key, text, start) in [("l3", &class.l3, "L3"), ("bandwidth", &class.bandwidth, "MB")] {
            let is_line = text.starts_with(start) && text.contains(':');
            if !text.is_empty() && !is_line {
                let problem = format!(
                    "`rdt.classes.{name}.{key}` is {text:?}: a line such as \"{start}:0=…\" is needed"
                );
                reader.mistake(&["rdt", "classes", &name, key], problem);
            }
        }
        classes.rdt.insert(name, class);
    }
    for name in reader.entries.names("block_io.classes") {
        let class = block_io(reader, &name);
        classes.block_io.insert(name, class);
    }
    let missing = |found: bool, name: &Option<String>| name.clone().filter(|_| !found);
    let rdt = classes.rdt_default.as_ref().is_some_and(|name| classes.rdt.contains_key(name));
    let block_io =
        classes.block_io_default.as_ref().is_some_and(|name| classes.block_io.contains_key(name));
    for (table, name) in [
        ("rdt", missing(rdt, &classes.rdt_default)),
        ("block_io", missing(block_io, &classes.block_io_default)),
    ] {
        if let Some(name) = name {
            let problem = format!("`{table}.default` is {name:?}: no such class");
            reader.mistake(&[table, "default"], problem);
        }
    }
    classes
}

fn exec_cpus(reader: &mut Reader<'_>) -> Option<ExecCpus> {
    let text = said(reader.entries.text(&["pods", "exec_cpus"]))?;
    let parsed = ExecCpus::parse(&text);
    if parsed.is_none() {
        let problem = format!(
            "`pods.exec_cpus` is {text:?}: \"first\" or a list such as \"0-1,4\" is needed"
        );
        reader.mistake(&["pods", "exec_cpus"], problem);
    }
    parsed
}

fn block_io(reader: &mut Reader<'_>, name: &str) -> BlockIoClass {
    let weight = reader.entries.whole(&["block_io", "classes", name, "weight"]);
    let weight = u16::try_from(weight).ok().filter(|weight| *weight > 0);
    if weight.is_some_and(|weight| !(10..=1000).contains(&weight)) {
        let problem = format!("`block_io.classes.{name}.weight`: 10 to 1000 are allowed");
        reader.mistake(&["block_io", "classes", name, "weight"], problem);
    }
    let mut rates = |key: &str| rates(reader, name, key);
    BlockIoClass {
        weight,
        read_bps: rates("read_rate"),
        write_bps: rates("write_rate"),
        read_iops: rates("read_operations"),
        write_iops: rates("write_operations"),
    }
}

/// Entries such as `/dev/sda=10MiB`.
fn rates(reader: &mut Reader<'_>, name: &str, key: &str) -> Vec<(PathBuf, u64)> {
    let at = ["block_io", "classes", name, key];
    let mut all = Vec::new();
    for text in reader.entries.texts(&at) {
        let read = text
            .rsplit_once('=')
            .and_then(|(path, rate)| Some((PathBuf::from(path.trim()), kind::size(rate.trim())?)));
        match read.filter(|(path, rate)| path.is_absolute() && *rate > 0) {
            Some(one) => all.push(one),
            None => {
                let problem = format!("`{}` has {text:?}: device=rate is needed", at.join("."));
                reader.mistake(&at, problem);
            }
        }
    }
    all
}
