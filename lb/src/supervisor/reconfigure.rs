//! Other pools, or the same with other settings: first everything that may fail, then everything else.

use std::{collections::BTreeMap, time::Instant};

use ringmaster_fleet::Table;

use super::{
    Supervisor,
    handle::{AskError, Publish},
    keeper::Keeper,
};
use crate::{
    config::PoolConfig,
    events::{Fact, Reloaded},
};

/// What was made ready for `pools`: for those that there are the tables that they ask for, and keepers for the others.
struct Prepared {
    tables: BTreeMap<String, Option<Table>>,
    keepers: Vec<Keeper>,
}

impl Supervisor {
    /// Goes on with `pools` and no others; requests see them by `publish` before any pool is let go.
    pub(super) fn reconfigure(
        &mut self,
        pools: &BTreeMap<String, PoolConfig>,
        reloaded: Reloaded,
        publish: Publish,
    ) -> Result<(), AskError> {
        let Prepared { mut tables, keepers } = self.prepare(pools)?;
        self.events.publish(Fact::Reloaded(reloaded));
        let now = Instant::now();
        for keeper in self.keepers.iter_mut().filter(|it| !it.is_retired()) {
            if let Some(config) = pools.get(keeper.name()) {
                let table = tables.remove(keeper.name()).flatten();
                keeper.reconfigure(now, config.clone(), table);
            }
        }
        keepers.iter().for_each(Keeper::begin);
        self.keepers.extend(keepers);
        let (kept, dropped): (Vec<_>, Vec<_>) = self
            .keepers
            .iter_mut()
            .filter(|it| !it.is_retired())
            .partition(|it| pools.contains_key(it.name()));
        publish(kept.iter().map(|it| it.pool().clone()).collect());
        dropped.into_iter().for_each(|it| it.retire(now));
        Ok(())
    }

    fn prepare(&self, pools: &BTreeMap<String, PoolConfig>) -> Result<Prepared, AskError> {
        let mut tables = BTreeMap::new();
        for keeper in &self.keepers {
            match pools.get(keeper.name()) {
                Some(_) if keeper.is_retired() => {
                    return Err(AskError::Emptying(keeper.name().to_owned()));
                }
                Some(config) => {
                    tables.insert(keeper.name().to_owned(), keeper.table_under(config)?);
                }
                // What an earlier balancer left of it must be known to be ended.
                None if !keeper.has_begun() => return Err(AskError::NotBegun(None)),
                None => {}
            }
        }
        let first = self.keepers.iter().map(|it| it.index() + 1).max().unwrap_or(0);
        let new = pools.iter().filter(|(name, _)| !tables.contains_key(*name));
        let keepers = (first..).zip(new).map(|(index, (name, config))| {
            let refused = |error| AskError::Refused(format!("pool {name}: {error:#}"));
            (self.make_keeper)(index, name, config).map_err(refused)
        });
        Ok(Prepared { keepers: keepers.collect::<Result<_, _>>()?, tables })
    }

    /// Forgets pools that were let go and have no replicas left.
    pub(super) fn drop_empty(&mut self) {
        self.keepers.retain(|keeper| {
            let is_over = keeper.is_retired() && keeper.is_empty();
            if is_over {
                keeper.forget();
            }
            !is_over
        });
    }
}
