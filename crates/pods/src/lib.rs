//! Use cases of sandboxes and containers, one file per verb.
