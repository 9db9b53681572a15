//! OCI images: references, manifests, configurations, tar and whiteout rules. No I/O.
