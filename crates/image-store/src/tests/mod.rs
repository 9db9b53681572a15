//! The store as a whole, on a real file system.

mod archives;
mod containers;
mod faults;
mod golden;
mod images;
mod layers;
mod support;
mod whiteouts;
