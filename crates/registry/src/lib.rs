//! OCI distribution client. No disk.
