//! Messages between daemon and monitor, versioned. No I/O.
