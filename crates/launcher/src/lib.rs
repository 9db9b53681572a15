//! OCI runtime spec -> running process, and exec into one.
