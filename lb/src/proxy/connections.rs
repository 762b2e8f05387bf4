//! How many connections there are, in all and of each client, and how many there may be.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The bits of an IPv6 address that one client is given: it can choose the others itself.
const CLIENT_PREFIX_V6: u128 = !0 << 64;

/// All client connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    /// Of those clients that are limited. Touched once at the start and once at the end of a connection.
    by_client: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    counts: Arc<Counts>,
    client: Option<IpAddr>,
}

impl Connections {
    pub(crate) fn count(&self) -> usize {
        self.0.all.load(Ordering::Acquire)
    }

    /// A place among `max`, and among the `per_client` of `client` if it is given; or none.
    pub(super) fn admit(
        &self,
        max: usize,
        client: Option<IpAddr>,
        per_client: usize,
    ) -> Option<Slot> {
        // Counted from here on, so that whatever is refused below is given back.
        let mut slot = Slot { counts: self.0.clone(), client: None };
        if self.0.all.fetch_add(1, Ordering::AcqRel) >= max {
            return None;
        }
        if let Some(client) = client.map(prefix) {
            let mut counts = self.0.by_client.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(client).or_default();
            if *count >= per_client {
                return None;
            }
            *count += 1;
            slot.client = Some(client);
        }
        Some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::AcqRel);
        let Some(client) = self.client else { return };
        let mut counts = self.counts.by_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&client);
            }
        }
    }
}

fn prefix(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & CLIENT_PREFIX_V6).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn places_are_limited_in_all_and_per_client_and_given_back() {
        let connections = Connections::default();
        let admit = |client| connections.admit(3, client, 2);
        let first = admit(ip("10.0.0.1")).unwrap();
        let _second = admit(ip("10.0.0.1")).unwrap();
        assert!(admit(ip("10.0.0.1")).is_none(), "its own limit");
        let third = admit(None).unwrap();
        assert!(admit(ip("10.0.0.2")).is_none(), "the limit of all");
        assert_eq!(connections.count(), 3);
        drop((first, third));
        let _again = admit(ip("10.0.0.1")).unwrap();
        assert_eq!(connections.count(), 2);
    }

    #[test]
    fn a_client_is_not_many_by_choosing_addresses_of_its_own_network() {
        let connections = Connections::default();
        let _first = connections.admit(9, ip("2001:db8::1"), 1).unwrap();
        assert!(connections.admit(9, ip("2001:db8::2"), 1).is_none());
        assert!(connections.admit(9, ip("2001:db8:0:1::1"), 1).is_some());
        assert_eq!(
            connections.0.by_client.lock().unwrap().len(),
            1,
            "those that are gone are forgotten"
        );
    }
}
