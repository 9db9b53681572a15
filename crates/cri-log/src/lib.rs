//! CRI log records: encode, decode, follow.
