//! The ring as Pingora knows it: a slot table, and for each of its members whoever serves for it.
//!
//! Invariants: a [`Ring`] never changes; `serving` is as long as the table has members, in the same order. A
//! member that does not serve keeps its slots: its keys go to their next candidates and come home with it.

use std::{collections::BTreeSet, sync::Arc};

use pingora::lb::{
    Backend,
    selection::{BackendIter, BackendSelection},
};
use ringmaster_fleet::{Algorithm, Member, Place, ReplicaName, Table, Walk};

/// An immutable picture: which member a key prefers, and the `T` that serves for each member.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    table: Arc<Table>,
    serving: Box<[Option<T>]>,
    serving_count: u32,
}

impl<T> Ring<T> {
    /// Pairs each member of `table` with what `serving` finds for it.
    pub(crate) fn new(table: Arc<Table>, serving: impl FnMut(&Member) -> Option<T>) -> Self {
        let serving: Box<[Option<T>]> = table.members().iter().map(serving).collect();
        let serving_count = serving.iter().flatten().count() as u32;
        Self { table, serving, serving_count }
    }

    pub(crate) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// How many serve.
    pub(crate) fn serving_count(&self) -> u32 {
        self.serving_count
    }

    /// Those that serve, in the table's order of members.
    pub(crate) fn serving(&self) -> impl Iterator<Item = &T> {
        self.serving.iter().flatten()
    }

    /// The first candidate for `place` that serves and is accepted, and whether it owns the slot.
    ///
    /// `accept` is asked at most once for each. No lock, no allocation.
    pub(crate) fn first(
        &self,
        place: Place,
        load: impl Fn(&T) -> u32,
        mut accept: impl FnMut(&T) -> bool,
    ) -> Option<&T> {
        let member = self.table.first(
            place,
            |member| self.serving[member].as_ref().map_or(u32::MAX, &load),
            |member| self.serving[member].as_ref().is_some_and(&mut accept),
        )?;
        self.serving[member].as_ref()
    }

    /// Whoever owns the slot of `place`, if it serves.
    pub(crate) fn owner(&self, place: Place) -> Option<&T> {
        let member = self.table.slot_owner(place.slot as usize)?;
        self.serving[member].as_ref()
    }
}

/// The name and number under which a [`Backend`] is a member of the ring, kept in its extensions.
///
/// Pingora compares backends by address alone; the ring places them by name alone.
#[derive(Clone, Debug)]
pub(crate) struct Identity(pub(crate) Member);

/// The ring for anything that speaks Pingora's own interface, such as its `LoadBalancer`.
impl BackendSelection for Ring<Backend> {
    type Iter = Preference;
    type Config = Algorithm;

    fn build(backends: &BTreeSet<Backend>) -> Self {
        Self::build_with_config(backends, &Algorithm::default())
    }

    fn build_with_config(backends: &BTreeSet<Backend>, algorithm: &Algorithm) -> Self {
        let identified: Vec<(Member, &Backend)> =
            backends.iter().enumerate().map(|(index, it)| (identity(it, index), it)).collect();
        let members = identified.iter().map(|(member, _)| member.clone());
        let table = Table::build(algorithm, members).unwrap_or_else(|error| {
            // The interface has no way to refuse, so what cannot be placed is not served.
            tracing::error!(%error, "No ring of these backends");
            Table::default()
        });
        Self::new(Arc::new(table), |member| {
            identified.iter().find(|(it, _)| it == member).map(|&(_, backend)| backend.clone())
        })
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Preference {
        Preference { walk: self.table.walk(self.table.locate(key)), ring: self.clone() }
    }
}

/// A backend without an [`Identity`] is known by its address, its number by its place in the set.
fn identity(backend: &Backend, index: usize) -> Member {
    match backend.ext.get::<Identity>() {
        Some(Identity(member)) => member.clone(),
        None => Member {
            name: ReplicaName::parse(&backend.addr.to_string().replace([':', '[', ']'], "_"))
                .unwrap_or_else(|_| ReplicaName::generated(index as u32 + 1)),
            number: index as u32 + 1,
        },
    }
}

/// Every backend once, the key's favourite first.
pub(crate) struct Preference {
    ring: Arc<Ring<Backend>>,
    walk: Walk,
}

impl BackendIter for Preference {
    fn next(&mut self) -> Option<&Backend> {
        loop {
            let member = self.walk.next(self.ring.table())?;
            if self.ring.serving[member].is_some() {
                return self.ring.serving[member].as_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pingora::lb::LoadBalancer;

    fn backend(number: u32) -> Backend {
        let mut backend = Backend::new(&format!("127.0.0.1:{}", 9_000 + number)).unwrap();
        let name = ReplicaName::generated(number);
        backend.ext.insert(Identity(Member { name, number }));
        backend
    }

    fn name(backend: &Backend) -> String {
        backend.ext.get::<Identity>().unwrap().0.name.to_string()
    }

    /// Pingora's own balancer, with our ring as its algorithm.
    async fn stock(numbers: impl IntoIterator<Item = u32>) -> LoadBalancer<Ring<Backend>> {
        let backends: BTreeSet<Backend> = numbers.into_iter().map(backend).collect();
        let discovery = pingora::lb::discovery::Static::new(backends);
        let backends = pingora::lb::Backends::new(discovery);
        let balancer =
            LoadBalancer::from_backends_with_config(backends, Some(Algorithm::default()));
        balancer.update().await.unwrap();
        balancer
    }

    #[tokio::test]
    async fn pingora_s_load_balancer_takes_the_ring_and_agrees_with_it() {
        let balancer = stock(1..=5).await;
        let members = (1..=5).map(|number| Member { name: ReplicaName::generated(number), number });
        let table = Table::build(&Algorithm::default(), members).unwrap();
        for key in 0..500_u32 {
            let key = key.to_string();
            let chosen = balancer.select(key.as_bytes(), 5).expect("all are well");
            let owner = table.candidates(table.locate(key.as_bytes())).next().unwrap();
            assert_eq!(name(&chosen), table.members()[owner].name.to_string());
        }
    }

    #[tokio::test]
    async fn with_all_but_one_unhealthy_the_last_one_is_found() {
        let balancer = stock(1..=5).await;
        for well in 1..=5 {
            for key in 0..100_u32 {
                let accept = |it: &Backend, _| name(it) == format!("Server{well}");
                let chosen = balancer.select_with(&key.to_le_bytes(), usize::MAX, accept);
                assert_eq!(chosen.map(|it| name(&it)), Some(format!("Server{well}")));
            }
        }
    }

    #[tokio::test]
    async fn backends_without_a_name_are_known_by_their_address() {
        let balancer: LoadBalancer<Ring<Backend>> =
            LoadBalancer::try_from_iter(["127.0.0.1:9001", "[::1]:9002"]).unwrap();
        balancer.update().await.unwrap();
        let chosen: BTreeSet<_> = (0..100_u32)
            .filter_map(|key| balancer.select(&key.to_le_bytes(), 2))
            .map(|it| it.addr.to_string())
            .collect();
        assert_eq!(chosen.len(), 2);
    }
}
