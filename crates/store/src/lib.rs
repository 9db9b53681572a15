//! Durable records: versioned, checksummed, one file each.
