//! Tests of the daemon over its socket: see `tests/`.
