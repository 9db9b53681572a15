//! What Isopod does, in a terminal, in a few seconds.

fn main() {}
