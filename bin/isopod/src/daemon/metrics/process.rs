//! What the kernel says of this process (proc(5)).

use std::time::Duration;

/// Of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    /// Resident bytes.
    pub memory: i64,
    /// Open descriptors.
    pub descriptors: i64,
    /// Threads.
    pub threads: i64,
    /// CPU time, user and system.
    pub cpu: Duration,
}

/// As it is now; zero what cannot be read.
pub fn read() -> Process {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // The one that reads the directory is not counted.
    let descriptors = i64::try_from(descriptors).unwrap_or(0).saturating_sub(1);
    Process { descriptors, cpu: cpu(), ..parse(&status) }
}

/// Of all threads.
fn cpu() -> Duration {
    let clock = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let (seconds, nanoseconds) = (clock.tv_sec, clock.tv_nsec);
    Duration::new(seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0))
}

fn parse(status: &str) -> Process {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<i64>().ok()
    };
    let memory = field("VmRSS:").unwrap_or(0).saturating_mul(1024);
    Process { memory, threads: field("Threads:").unwrap_or(0), ..Process::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_bytes() {
        let text = "Name:\tisopod\nVmRSS:\t    8192 kB\nThreads:\t5\n";
        assert_eq!(parse(text), Process { memory: 8 << 20, threads: 5, ..Process::default() });
        assert!(read().memory > 0 && read().descriptors > 2);
    }
}
