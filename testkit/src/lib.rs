//! For tests: temporary daemons, registries and images.
