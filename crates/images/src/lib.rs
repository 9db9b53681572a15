//! Use cases of images: pull, load, list, status, remove, fs_info.
