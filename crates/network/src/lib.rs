//! Network namespaces, CNI, the built-in bridge, host ports.
