//! cgroup v2 and v1: create, limit, read, out-of-memory events.
