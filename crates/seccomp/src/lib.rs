//! Seccomp profiles to BPF: compiler, system call tables, the default profile. No I/O.
