//! A real monitor, driven through its client. Needs root, /bin/busybox of Debian's busybox-static, and crun
//! and runc.

#![expect(clippy::unwrap_used, reason = "a test ends where something unforeseen happens")]

mod external;
mod isolation;
mod life;
mod oci;
mod pod;
mod streams;
mod users;
