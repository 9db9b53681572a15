//! The addresses of a subnet, as a value.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// Which addresses of a subnet are in use. The first is the gateway's; an address that was given back
/// is the last to be given out again, because others may remember who had it.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    subnet: IpNet,
    used: HashSet<u128>,
    last: u128,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Pool {
    /// A pool of this subnet, all free; `None` if it has no room for a gateway and a sandbox.
    pub(crate) fn new(subnet: IpNet) -> Option<Self> {
        let subnet = subnet.trunc();
        let pool = Self { subnet, used: HashSet::new(), last: number(subnet.network()) + 1 };
        (pool.end() > pool.last).then_some(pool)
    }

    /// The subnet.
    pub(crate) const fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// The gateway: the first address.
    pub(crate) fn gateway(&self) -> IpAddr {
        self.address(self.start() - 1)
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.subnet {
            // Numbers of an IPv4 pool come from IPv4 addresses.
            IpNet::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or_default().into()),
            IpNet::V6(_) => IpAddr::V6(number.into()),
        }
    }

    /// The first address for sandboxes.
    fn start(&self) -> u128 {
        number(self.subnet.network()) + 2
    }

    /// The last address for sandboxes: the one before the broadcast address.
    fn end(&self) -> u128 {
        let last = number(self.subnet.broadcast());
        if matches!(self.subnet, IpNet::V4(_)) { last.saturating_sub(1) } else { last }
    }

    /// How many are in use.
    pub(crate) fn used(&self) -> usize {
        self.used.len()
    }

    /// How many are free; at most `u64::MAX` is said.
    pub(crate) fn free(&self) -> u64 {
        let all = self.end().saturating_sub(self.start()).saturating_add(1);
        u64::try_from(all.saturating_sub(self.used.len() as u128)).unwrap_or(u64::MAX)
    }

    /// Takes a free address.
    pub(crate) fn take(&mut self) -> Option<IpAddr> {
        let (start, end) = (self.start(), self.end());
        // At most one step more than addresses in use.
        let mut at = self.last;
        for _ in 0..=self.used.len() {
            at = if at >= end || at < start { start } else { at + 1 };
            if self.used.insert(at) {
                self.last = at;
                return Some(self.address(at));
            }
        }
        None
    }

    /// Marks an address as in use. Whether it is one of this pool.
    pub(crate) fn claim(&mut self, address: IpAddr) -> bool {
        let mine = self.subnet.contains(&address);
        if mine {
            self.used.insert(number(address));
        }
        mine
    }

    /// Gives an address back.
    pub(crate) fn give_back(&mut self, address: IpAddr) {
        if self.subnet.contains(&address) {
            self.used.remove(&number(address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str) -> Pool {
        Pool::new(subnet.parse().unwrap()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_between_gateway_and_broadcast_is_given_once() {
        for (subnet, gateway, expected) in [
            ("10.0.0.0/30", "10.0.0.1", vec!["10.0.0.2"]),
            (
                "10.0.0.9/29",
                "10.0.0.9",
                vec!["10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"],
            ),
            ("fd00::/126", "fd00::1", vec!["fd00::2", "fd00::3"]),
        ] {
            let mut pool = pool(subnet);
            assert_eq!(pool.gateway(), ip(gateway));
            assert_eq!((pool.used() as u64, pool.free()), (0, expected.len() as u64));
            let mut all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
            all.sort_unstable();
            assert_eq!(all, expected.iter().map(|t| ip(t)).collect::<Vec<_>>(), "{subnet}");
            assert_eq!((pool.used(), pool.free()), (expected.len(), 0));
            pool.give_back(all[0]);
            assert_eq!(pool.take(), Some(all[0]));
            assert_eq!(pool.take(), None);
        }
    }

    #[test]
    fn an_address_that_was_given_back_comes_last() {
        let mut pool = pool("10.0.0.0/29");
        let first = pool.take().unwrap();
        pool.give_back(first);
        let rest: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(rest.last(), Some(&first));
    }

    #[test]
    fn a_claimed_address_is_not_given_and_a_foreign_one_is_not_claimed() {
        let mut pool = pool("10.0.0.0/30");
        assert!(!pool.claim(ip("10.0.1.2")));
        assert!(pool.claim(ip("10.0.0.2")));
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn a_subnet_without_room_is_refused() {
        for subnet in ["10.0.0.1/32", "10.0.0.0/31", "fd00::1/128", "fd00::/127"] {
            assert!(Pool::new(subnet.parse().unwrap()).is_none(), "{subnet}");
        }
        assert!(Pool::new("::/0".parse().unwrap()).is_some());
    }

    #[test]
    fn a_full_subnet_of_many_is_searched_in_time() {
        let mut pool = pool("10.0.0.0/16");
        assert_eq!(std::iter::from_fn(|| pool.take()).count(), 65536 - 3);
    }
}
