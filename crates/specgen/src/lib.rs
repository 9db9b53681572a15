//! CRI configuration + image configuration + host facts -> OCI runtime spec. No I/O.
