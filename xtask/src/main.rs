//! The project's own commands: test, demo, bench, lint.

fn main() {}
