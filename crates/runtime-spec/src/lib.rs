//! The Linux part of the OCI runtime spec, as plain types.
