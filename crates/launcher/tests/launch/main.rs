//! The launcher on real namespaces: each case launches a busybox container and looks from inside.
//!
//! It has a main of its own because the launcher needs a process with one thread. It needs root and
//! /bin/busybox (Debian's busybox-static).

#![expect(clippy::unwrap_used, reason = "a test ends where something unforeseen happens")]

mod adversary;
mod bundle;
mod cases;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use rustix::mount::{MountPropagationFlags, mount_change};
use sys::SingleThreaded;

use adversary::*;
use cases::*;

type Case = (&'static str, fn(&SingleThreaded));

macro_rules! cases {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn(&SingleThreaded))),*] };
}

const CASES: [Case; 26] = cases![
    it_runs_in_namespaces_of_its_own_and_its_exit_code_is_told,
    it_sees_its_root_and_nothing_of_the_hosts,
    it_has_the_user_the_groups_and_the_capabilities_that_were_asked_for,
    a_filter_applies_with_and_without_new_privileges,
    masked_and_read_only_paths_hold,
    a_read_only_root_cannot_be_written_but_its_volumes_can,
    links_in_the_image_lead_nowhere_outside,
    a_working_directory_is_made_and_one_outside_is_refused,
    a_program_that_cannot_be_executed_is_named,
    a_missing_source_is_an_error_that_names_it,
    an_exec_has_the_identity_of_its_container,
    an_exec_that_cannot_be_executed_is_named_in_lent_memory_too,
    a_container_that_is_never_started_can_be_killed,
    a_capability_that_the_host_keeps_back_is_said_and_not_fatal,
    a_mount_below_a_linked_directory_stays_inside,
    a_mount_at_a_place_that_is_a_link_stays_inside,
    a_place_that_is_swapped_while_it_is_mounted_on_leads_nowhere_outside,
    a_volume_without_set_user_id_and_devices_says_so,
    names_with_line_breaks_are_names,
    no_descriptor_of_the_launcher_is_left_to_a_program,
    an_exec_that_could_be_traced_has_its_filter_before_it_is_seen,
    a_mask_over_a_link_covers_what_it_leads_to_inside,
    hooks_run_before_the_program_and_in_the_container,
    an_exec_is_kept_to_its_cpus_and_the_container_is_not,
    limits_are_lowered_and_one_that_is_refused_is_said,
    nothing_is_mounted_here_afterwards,
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // What cargo-nextest asks a test program without the standard harness.
    if args.iter().any(|a| a == "--list") {
        if !args.iter().any(|a| a == "--ignored") {
            CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        }
        return ExitCode::SUCCESS;
    }
    let exact = args.iter().any(|a| a == "--exact");
    let filters: Vec<_> = args.iter().filter(|a| !a.starts_with("--")).collect();
    let proof = SingleThreaded::check().expect("this program has one thread");
    // As every caller of the launcher does: a root whose mounts are shared cannot be left (pivot_root(2)).
    sys::unshare(sys::Namespaces::MOUNT).expect("a mount namespace");
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).expect("its mounts are told of those outside, and tell nothing");
    let mut failed = 0;
    for (name, case) in CASES {
        let wanted =
            |f: &&&String| if exact { f.as_str() == name } else { name.contains(f.as_str()) };
        if !filters.is_empty() && !filters.iter().any(|f| wanted(&f)) {
            continue;
        }
        let passed = catch_unwind(AssertUnwindSafe(|| case(&proof))).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
