//! Content, unpacking, snapshots, usage and collection of images.
