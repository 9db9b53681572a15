//! What the daemon holds and does not need: free parts of its heap, and its program as far as nobody uses it.
//!
//! A program of which the kernel maps sixteen pages around each one that is touched is soon mapped as a whole, for a
//! pull or a recovery that was an hour ago. What is let go of comes back from the page cache, as it is used.

use std::fs::File;
use std::io::{BufRead, BufReader};

/// Gives back what can be had again.
pub fn trim() {
    sys::return_free_memory();
    let smaps = File::open("/proc/self/smaps");
    // Breakpoints of somebody who looks at this daemon would be forgotten.
    if smaps.is_ok_and(|smaps| !has_own_code(BufReader::new(smaps))) {
        sys::return_program();
    }
}

/// Whether code of the program, which is what is mapped first, is in pages of this process's own: a debugger's or a
/// probe's breakpoints are. What cannot be read counts as that.
fn has_own_code(smaps: impl BufRead) -> bool {
    let mut is_code = false;
    for line in smaps.lines() {
        let Ok(line) = line else { return true };
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some(kib)) if is_code && kib != "0" => return true,
            (Some(key), Some(_)) if key.ends_with(':') => {}
            // Addresses, permissions, offset, device, inode, path (proc(5)).
            (Some(_), Some(permissions)) => {
                let is_of_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
                if !is_of_file {
                    // The heap: the program is before it.
                    return false;
                }
                is_code = permissions.starts_with("r-x");
            }
            (None | Some(_), _) => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smaps(code: u32, data: u32) -> String {
        format!(
            "55d0-55d4 r--p 00000000 fe:00 1 /usr/bin/isopod\nRss: 16 kB\nAnonymous: 0 kB\n\
             VmFlags: rd mr\n\
             55d4-55d8 r-xp 00004000 fe:00 1 /usr/bin/isopod\nRss: 16 kB\nAnonymous: {code} kB\n\
             55d8-55dc rw-p 00008000 fe:00 1 /usr/bin/isopod\nAnonymous: {data} kB\n\
             55dc-55df rw-p 00000000 00:00 0 [heap]\nAnonymous: 12 kB\n\
             7f00-7f04 r-xp 00000000 fe:00 2 /lib/libc.so.6\nAnonymous: 4 kB\n"
        )
    }

    #[test]
    fn breakpoints_in_the_program_are_seen_and_data_is_none() {
        assert!(!has_own_code(smaps(0, 0).as_bytes()));
        assert!(!has_own_code(smaps(0, 8).as_bytes()));
        assert!(has_own_code(smaps(4, 0).as_bytes()));
        assert!(has_own_code(&b"55d0\n"[..]));
    }

    #[test]
    fn this_program_has_none() {
        assert!(!has_own_code(BufReader::new(File::open("/proc/self/smaps").unwrap())));
    }
}
