//! One per pod: owns its namespaces, starts its containers, writes their logs, records their ends.

fn main() {}
