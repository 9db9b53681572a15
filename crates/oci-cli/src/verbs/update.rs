//! `update`: other limits for a container that is there.

use std::io::Read as _;

use runtime_spec::{BlockIo, Cpu, Memory, Pids, Resources};

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::Status;

/// The longest document of limits, in bytes.
const LONGEST: u64 = 1 << 20;

pub(super) fn update(line: &Invocation) -> Result<u8, OciError> {
    let (directory, record) = super::find(line)?;
    if record.status(&directory) == Status::Stopped {
        return Err(OciError::WrongState {
            what: format!("change the limits of the container {}", record.id),
            problem: "container not running".to_owned(),
        });
    }
    let resources = match line.value("resources") {
        Some(place) => read(place)?,
        None => from_options(line)?,
    };
    if let Some(cgroup) = record.cgroup()? {
        // Rules of devices are made with a container and stay.
        cgroup.apply(&Resources { devices: Vec::new(), ..resources })?;
    }
    Ok(0)
}

fn read(place: &str) -> Result<Resources, OciError> {
    let mut text = String::new();
    let what = || format!("read the limits in {place}");
    let read = if place == "-" {
        std::io::stdin().lock().take(LONGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(place).and_then(|file| file.take(LONGEST).read_to_string(&mut text))
    };
    read.map_err(OciError::io(what()))?;
    serde_json::from_str(&text).map_err(OciError::json(what()))
}

fn from_options(line: &Invocation) -> Result<Resources, OciError> {
    let memory = Memory {
        limit: number(line, "memory")?,
        swap: number(line, "memory-swap")?,
        reservation: number(line, "memory-reservation")?,
        ..Memory::default()
    };
    let text = |name: &str| line.value(name).unwrap_or_default().to_owned();
    let cpu = Cpu {
        shares: number(line, "cpu-share")?.or(number(line, "cpu-shares")?),
        quota: number(line, "cpu-quota")?,
        period: number(line, "cpu-period")?,
        cpus: text("cpuset-cpus"),
        mems: text("cpuset-mems"),
        ..Cpu::default()
    };
    let weight = number(line, "blkio-weight")?;
    Ok(Resources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: number(line, "pids-limit")?.map(|limit| Pids { limit }),
        block_io: weight.map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
        ..Resources::default()
    })
}

fn number<T: std::str::FromStr>(line: &Invocation, name: &str) -> Result<Option<T>, OciError> {
    let parse = |text: &str| {
        text.parse().map_err(|_| OciError::Usage(format!("--{name} {text:?} is not a number")))
    };
    line.value(name).map(parse).transpose()
}
