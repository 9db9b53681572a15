//! The only unsafe code: clone3, the mount API, pidfds, descriptor passing.
