//! Start a monitor, find it again, talk to it.
