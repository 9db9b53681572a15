//! Named points at which a test can end the process, or have an operation fail.
//!
//! Owns: the points' meaning, and the directory by which a test arms them.
//! Always: without the feature `on` a point is nothing at all, and no name of one is in the program; with
//! it, and without the variable `ISOPOD_FAULTS`, a point does nothing. An armed fault strikes once, in one
//! process.
//! Callers: every crate that touches the kernel or the disk, at each boundary; `cargo xtask test` builds
//! with the feature.
//!
//! In the directory:
//! - `armed`: one line, `NAME NTH ACTION`. The NTH time (from 1) that a process reaches the point NAME since
//!   it saw this line, it claims the file by renaming it to `struck`, and acts. The actions are `kill`
//!   (SIGKILL to itself), `enospc`, `eio` (the operation fails), `pause` (it waits until `struck` is gone).
//! - `trace`: where it is there, each process adds the names of the points that it reaches, a line each.

#[cfg(feature = "on")]
mod on;

#[cfg(feature = "on")]
pub use on::{DIRECTORY, environment, reached};

/// A point at which an operation can fail: an `io::Result<()>`. Its name is put together of the parts, with
/// spaces as hyphens.
#[cfg(feature = "on")]
#[macro_export]
macro_rules! check {
    ($($part:expr),+ $(,)?) => { $crate::reached(&[$(::core::convert::AsRef::<str>::as_ref(&$part)),+]) };
}

/// A point at which an operation can fail: an `io::Result<()>`. Its name is put together of the parts, with
/// spaces as hyphens.
#[cfg(not(feature = "on"))]
#[macro_export]
macro_rules! check {
    ($($part:expr),+ $(,)?) => {{
        let _ = || { $(let _ = &$part;)+ };
        $crate::nothing()
    }};
}

/// A point at which a process can be ended or held, and nothing can fail.
#[macro_export]
macro_rules! point {
    ($($part:expr),+ $(,)?) => { drop($crate::check!($($part),+)) };
}

/// What a point is without the feature.
///
/// # Errors
/// None.
#[cfg(not(feature = "on"))]
#[inline(always)]
pub const fn nothing() -> std::io::Result<()> {
    Ok(())
}

/// What a process of ours is to be given so that its points can be armed too.
#[cfg(not(feature = "on"))]
#[must_use]
pub fn environment() -> Option<(&'static str, std::ffi::OsString)> {
    None
}
