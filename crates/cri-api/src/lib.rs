//! CRI v1 messages and services, client and server halves.
