//! The formats of the kernel's files. What is not there, or is not a number, is nothing.

use super::{IoStats, Pressure, PressureLine};

/// The number behind `key` in lines of `key number`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// A single number; `None` for `max`.
pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Lines of `some` and `full` with averages and a total.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let line = |word: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
        let field = |key: &str| rest.split(' ').find_map(|f| f.strip_prefix(key));
        Some(PressureLine {
            avg10: hundredths(field("avg10=")?)?,
            avg60: hundredths(field("avg60=")?)?,
            avg300: hundredths(field("avg300=")?)?,
            total_us: field("total=")?.parse().ok()?,
        })
    };
    // Of the CPU older kernels know no `full`.
    Some(Pressure { some: line("some ")?, full: line("full ").unwrap_or_default() })
}

/// `12.34` is 1234.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    let (whole, part): (u32, u32) = (whole.parse().ok()?, part.get(..2)?.parse().ok()?);
    whole.checked_mul(100)?.checked_add(part)
}

fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn of_device(all: &mut Vec<IoStats>, (major, minor): (u32, u32)) -> &mut IoStats {
    let at = all.iter().position(|io| (io.major, io.minor) == (major, minor));
    let at = at.unwrap_or_else(|| {
        all.push(IoStats { major, minor, ..IoStats::default() });
        all.len() - 1
    });
    &mut all[at]
}

/// v2's io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
pub(super) fn io(text: &str) -> Vec<IoStats> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next().and_then(device) else { continue };
        let io = of_device(&mut all, device);
        for word in words {
            let Some((key, value)) = word.split_once('=') else { continue };
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => io.read_bytes = value,
                "wbytes" => io.written_bytes = value,
                "rios" => io.reads = value,
                "wios" => io.writes = value,
                _ => {}
            }
        }
    }
    all
}

/// v1's files of the blkio controller: `8:0 Read 1`, one for bytes and one for operations.
pub(super) fn legacy_io(bytes: &str, operations: &str) -> Vec<IoStats> {
    let mut all = Vec::new();
    for (text, is_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(device), Some(what)) = (words.next().and_then(device), words.next()) else {
                continue;
            };
            let value = words.next().and_then(|v| v.parse().ok()).unwrap_or(0);
            let io = of_device(&mut all, device);
            match (what, is_bytes) {
                ("Read", true) => io.read_bytes = value,
                ("Write", true) => io.written_bytes = value,
                ("Read", false) => io.reads = value,
                ("Write", false) => io.writes = value,
                _ => {}
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_in_hundredths_of_a_percent() {
        let text = "some avg10=1.05 avg60=0.00 avg300=100.00 total=123\nfull avg10=0.50 avg60=0.10 avg300=0.01 total=9\n";
        let found = pressure(text).unwrap();
        let some = PressureLine { avg10: 105, avg60: 0, avg300: 10_000, total_us: 123 };
        assert_eq!(found.some, some);
        assert_eq!((found.full.avg10, found.full.avg300, found.full.total_us), (50, 1, 9));
        assert_eq!(
            pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"),
            Some(Pressure::default())
        );
        for bad in ["", "some", "some avg10=x avg60=0.00 avg300=0.00 total=0"] {
            assert_eq!(pressure(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn block_io_is_read_by_device() {
        let io =
            io("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:1 rbytes=9\nnonsense\n");
        let first =
            IoStats { major: 8, minor: 0, read_bytes: 1, written_bytes: 2, reads: 3, writes: 4 };
        assert_eq!(io[0], first);
        assert_eq!((io.len(), io[1].major, io[1].read_bytes), (2, 7, 9));
        let bytes = "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n";
        assert_eq!(legacy_io(bytes, "8:0 Read 3\n8:0 Write 4\n"), [first]);
    }

    #[test]
    fn a_key_is_a_whole_word() {
        assert_eq!(keyed("anon_thp 1\nanon 2\n", "anon"), Some(2));
        assert_eq!(keyed("anon x\n", "anon"), None);
        assert_eq!((number("5\n"), number("max\n")), (Some(5), None));
    }
}
