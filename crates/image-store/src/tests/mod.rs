//! The store as a whole, on a real file system.

mod archives;
mod blobs;
mod containers;
mod faults;
mod frames;
mod golden;
mod hostile;
mod images;
mod layers;
mod power;
mod support;
mod whiteouts;
