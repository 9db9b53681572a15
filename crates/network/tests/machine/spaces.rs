//! Network namespaces.

use model::{Class, Classified as _};
use network::{Mode, NetworkConfig, Networks, inside};

use crate::common::*;

fn networks(ready_netns: usize) -> Networks {
    Networks::new(NetworkConfig { ready_netns, ..NetworkConfig::new(Mode::None) }).unwrap()
}

#[test]
fn a_namespace_has_a_stable_name_that_ip_netns_shows_and_its_loopback_is_up() {
    on_a_machine(|| async {
        let networks = networks(0);
        assert!(networks.status().ready);
        let before = inventory();
        let netns = networks.new_netns(&id(1)).await.unwrap();
        assert_eq!(netns, networks.netns(&id(1)));
        assert!(ip("netns list").contains("isopod-010101010101"));
        assert!(netns.open().is_ok());
        serve(netns.path(), "127.0.0.1:80");
        connect(netns.path(), "127.0.0.1:80").unwrap();
        let attached = networks.attach(&pod(&id(1), &netns)).await.unwrap();
        assert!(attached.ips.is_empty());
        let error = networks.new_netns(&id(1)).await.unwrap_err();
        assert_eq!(error.class(), Class::Internal, "{error}");
        networks.detach(&pod(&id(1), &netns), None).await.unwrap();
        for _ in 0..2 {
            networks.remove_netns(&id(1)).await.unwrap();
        }
        assert!(inside(netns.path(), || ()).is_err());
        assert_eq!(inventory(), before);
    });
}

#[test]
fn a_directory_of_namespaces_that_another_mount_covers_is_not_mistaken_for_the_one_in_use() {
    on_a_machine(|| async {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        let cover = |dir: &str| mount("tmpfs", dir, "tmpfs", MountFlags::empty(), None).unwrap();
        std::fs::create_dir("/run/netns").unwrap();
        cover("/run/netns");
        mount_change("/run/netns", MountPropagationFlags::SHARED).unwrap();
        cover("/run");
        let networks = networks(0);
        for number in 1..=20 {
            networks.new_netns(&id(number)).await.unwrap();
        }
        // Each pin is one mount: the directory was not mounted on itself again and again.
        assert_eq!(inventory()["pins"].len(), 20);
    });
}

#[test]
fn a_namespace_that_somebody_else_has_made_is_pinned_like_a_new_one() {
    on_a_machine(|| async {
        let networks = networks(1);
        let made = std::thread::spawn(|| {
            sys::unshare(sys::Namespaces::NETWORK).unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        let netns = networks.pin_netns(&id(1), made.join().unwrap().into()).await.unwrap();
        assert_eq!(netns, networks.netns(&id(1)));
        serve(netns.path(), "127.0.0.1:80");
        connect(netns.path(), "127.0.0.1:80").unwrap();
        networks.remove_netns(&id(1)).await.unwrap();
        assert!(inside(netns.path(), || ()).is_err());
    });
}

#[test]
fn ready_namespaces_are_given_out_and_made_anew() {
    on_a_machine(|| async {
        let networks = networks(2);
        let mut seen = Vec::new();
        for number in 1..=6 {
            let netns = networks.new_netns(&id(number)).await.unwrap();
            let inode =
                std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(netns.path()).unwrap());
            assert!(!seen.contains(&inode), "two sandboxes have one namespace");
            seen.push(inode);
            let links = networks.interface_stats(&netns).await.unwrap();
            assert!(links.is_empty(), "{links:?}");
        }
    });
}

#[test]
fn many_namespaces_come_and_go_and_none_stays() {
    on_a_machine(|| async {
        let networks = networks(0);
        for _ in 0..2 {
            for number in 0..100 {
                networks.new_netns(&id(number)).await.unwrap();
            }
            assert_eq!(inventory()["namespaces"].len(), 100);
            for number in 0..100 {
                networks.remove_netns(&id(number)).await.unwrap();
            }
        }
        assert!(inventory()["namespaces"].is_empty());
    });
}
