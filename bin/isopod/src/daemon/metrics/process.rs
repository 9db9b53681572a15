//! What the kernel says of this process (proc(5)).

/// Of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Process {
    /// Resident bytes.
    pub memory: i64,
    /// Open descriptors.
    pub descriptors: i64,
    /// Threads.
    pub threads: i64,
}

/// As it is now; zero what cannot be read.
pub fn read() -> Process {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // The one that reads the directory is not counted.
    let descriptors = i64::try_from(descriptors).unwrap_or(0).saturating_sub(1);
    Process { descriptors, ..parse(&status) }
}

fn parse(status: &str) -> Process {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<i64>().ok()
    };
    let memory = field("VmRSS:").unwrap_or(0).saturating_mul(1024);
    Process { memory, descriptors: 0, threads: field("Threads:").unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_in_bytes() {
        let text = "Name:\tisopod\nVmRSS:\t    8192 kB\nThreads:\t5\n";
        assert_eq!(parse(text), Process { memory: 8 << 20, descriptors: 0, threads: 5 });
        assert!(read().memory > 0 && read().descriptors > 2);
    }
}
