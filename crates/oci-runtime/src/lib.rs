//! The launcher's work through an external OCI runtime's command line.
