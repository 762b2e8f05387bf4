//! [`Provider`]: stands in for processes, their heartbeats and the network that brings news of them.
//!
//! It starts slowly or not at all, its replicas crash and hang, they stop slowly, and its news arrives late,
//! in another order, or again long after. It never lies about an incarnation's end: `Stopped` is sent only
//! once nothing of it runs, and nothing will.

use crate::dice::Dice;
use ringmaster_fleet::{Event, Exit, Host, Incarnation, ReplicaName};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

pub(crate) type Id = (ReplicaName, Incarnation);

/// News on its way to the fleet.
#[derive(Debug)]
pub(crate) enum News {
    Fresh(Event),
    /// Told a second time, about this incarnation; to be delivered only if that is out of date.
    Stale(Id, Event),
}

/// What is to happen at a time.
#[derive(Debug)]
enum Happening {
    News(News),
    /// A start comes to its end.
    Up(Id),
    /// A heartbeat is due.
    Probe(Id),
    /// What was told to end has ended.
    End(Id),
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) hangs: bool,
    /// It has ended, but what is left of it must still be cleaned up.
    pub(crate) ended: bool,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) faulty: bool,
    pub(crate) processes: HashMap<Id, Process>,
    /// Those that ended by themselves.
    pub(crate) crashed: HashSet<Id>,
    /// When the news of an end arrive: one that is told again does not overtake them.
    ends: HashMap<Id, Instant>,
    queue: BTreeMap<(Instant, u64), Happening>,
    scheduled: u64,
    port: u16,
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self {
            faulty: true,
            processes: HashMap::new(),
            crashed: HashSet::new(),
            ends: HashMap::new(),
            queue: BTreeMap::new(),
            scheduled: 0,
            port: 0,
        }
    }

    // === What the fleet commands ===

    pub(crate) fn spawn(
        &mut self,
        now: Instant,
        dice: &mut Dice,
        host: Host,
        incarnation: Incarnation,
    ) {
        let id = (host.name, incarnation);
        let twin = self.processes.keys().find(|(name, _)| *name == id.0);
        assert_eq!(twin, None, "{id:?} starts beside a live incarnation");
        let process = Process { addr: None, hangs: false, ended: false };
        self.processes.insert(id.clone(), process);
        let slow = self.faulty && dice.one_in(8);
        let delay = dice.millis(if slow { 3_000..8_000 } else { 10..300 });
        self.schedule(now + delay, Happening::Up(id));
    }

    pub(crate) fn stop(&mut self, now: Instant, dice: &mut Dice, id: Id) {
        let hangs = self.processes.get(&id).is_some_and(|process| process.hangs);
        let grace = if hangs { 2_000..2_001 } else { 0..1_000 };
        self.schedule(now + dice.millis(grace), Happening::End(id));
    }

    pub(crate) fn kill(&mut self, now: Instant, dice: &mut Dice, id: Id) {
        self.schedule(now + dice.millis(0..500), Happening::End(id));
    }

    /// A new balancer takes over: it ends at once all but the `adopted`, and only sends these heartbeats. News
    /// on their way and orders not yet carried out died with the old one.
    pub(crate) fn take_over(&mut self, adopted: &HashSet<Id>) {
        self.processes.retain(|id, _| adopted.contains(id));
        // It may count the incarnations of a name anew that has left.
        self.crashed.clear();
        self.ends.clear();
        self.queue.retain(|_, happening| match happening {
            Happening::Probe(id) => adopted.contains(id),
            Happening::News(_) | Happening::Up(_) | Happening::End(_) => false,
        });
    }

    /// Where an incarnation runs, if it does.
    pub(crate) fn runs_at(&self, id: &Id) -> Option<SocketAddr> {
        let process = self.processes.get(id).filter(|process| !process.ended);
        process.and_then(|process| process.addr)
    }

    // === What happens by itself ===

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.keys().next().map(|&(at, _)| at)
    }

    /// Lets the next thing happen; it may be news for the fleet.
    pub(crate) fn advance(&mut self, dice: &mut Dice) -> Option<News> {
        let ((now, _), happening) = self.queue.pop_first()?;
        match happening {
            Happening::News(news) => return Some(news),
            Happening::Up(id) => self.up(now, dice, id),
            Happening::Probe(id) => self.probe(now, dice, id),
            Happening::End(id) => {
                let ended = self.processes.remove(&id).map(|process| process.ended);
                let exit = || exit("killed by signal 9");
                let (name, incarnation) = id.clone();
                let mut news = Vec::new();
                if ended == Some(true) {
                    let name = name.clone();
                    news.push(Event::Exited { name, incarnation, exit: exit() });
                }
                let exit = (ended == Some(false)).then(exit);
                news.push(Event::Stopped { name, incarnation, exit });
                self.tell_end(now, dice, id, news);
            }
        }
        None
    }

    fn up(&mut self, now: Instant, dice: &mut Dice, id: Id) {
        self.port += 1;
        let addr = SocketAddr::from(([127, 0, 0, 1], self.port));
        let spawned = |name, incarnation| Event::Spawned { name, incarnation, addr };
        let Some(process) = self.processes.get_mut(&id) else {
            // Killed while it started: its success may be told all the same.
            self.tell(now, dice, &id, spawned);
            return;
        };
        if self.faulty && dice.one_in(5) {
            // What is left of it stays until it is killed.
            process.ended = true;
            let exit = exit("no such image");
            self.tell(now, dice, &id, |name, incarnation| Event::SpawnFailed {
                name,
                incarnation,
                exit,
            });
            return;
        }
        process.addr = Some(addr);
        process.hangs = self.faulty && dice.one_in(10);
        self.tell(now, dice, &id, spawned);
        self.schedule(now + dice.millis(0..200), Happening::Probe(id));
    }

    fn probe(&mut self, now: Instant, dice: &mut Dice, id: Id) {
        let Some(process) = self.processes.get(&id) else {
            return; // The heartbeat ends with the incarnation.
        };
        if process.hangs || process.ended {
            self.tell(now, dice, &id, |name, incarnation| Event::Missed { name, incarnation });
        } else {
            self.tell(now, dice, &id, |name, incarnation| Event::Answered { name, incarnation });
        }
        self.schedule(now + Duration::from_millis(500), Happening::Probe(id));
    }

    // === Faults ===

    /// Ends a process by itself. Its exit may go unnoticed.
    pub(crate) fn crash(&mut self, now: Instant, dice: &mut Dice, id: &Id) {
        let process = self.processes.get_mut(id).expect("chosen among the processes");
        process.ended = true;
        self.crashed.insert(id.clone());
        if !dice.one_in(4) {
            let exit = exit("exit 1");
            self.tell(now, dice, id, |name, incarnation| Event::Exited { name, incarnation, exit });
        }
    }

    /// Makes a process stop answering, or answer again.
    pub(crate) fn toggle_hang(&mut self, id: &Id) {
        let process = self.processes.get_mut(id).expect("chosen among the processes");
        process.hangs = !process.hangs;
    }

    // === The network ===

    /// Requests in flight end in their own time: some after the drain's, and some never.
    pub(crate) fn drain(&mut self, now: Instant, dice: &mut Dice, id: &Id) {
        if dice.one_in(5) {
            return;
        }
        let ended = now + dice.millis(0..4_500);
        self.tell(ended, dice, id, |name, incarnation| Event::Drained { name, incarnation });
    }

    /// Sends news: late, so that it may be overtaken, and perhaps again much later.
    fn tell(
        &mut self,
        now: Instant,
        dice: &mut Dice,
        id: &Id,
        news: impl FnOnce(ReplicaName, Incarnation) -> Event,
    ) {
        let news = news(id.0.clone(), id.1);
        if self.faulty && dice.one_in(6) {
            let delay = dice.millis(0..6_000);
            self.schedule(now + delay, Happening::News(News::Stale(id.clone(), news.clone())));
        }
        let slow = self.faulty && dice.one_in(10);
        let delay = dice.millis(if slow { 0..900 } else { 0..20 });
        self.schedule(now + delay, Happening::News(News::Fresh(news)));
    }

    /// Sends the news of an end, of which none overtakes another.
    fn tell_end(&mut self, now: Instant, dice: &mut Dice, id: Id, news: Vec<Event>) {
        let slow = self.faulty && dice.one_in(10);
        let delay = dice.millis(if slow { 0..900 } else { 0..20 });
        let at = self.ends.get(&id).map_or(now + delay, |&earlier| earlier.max(now + delay));
        self.ends.insert(id, at);
        for event in news {
            self.schedule(at, Happening::News(News::Fresh(event)));
        }
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.scheduled += 1;
        self.queue.insert((at, self.scheduled), happening);
    }
}

fn exit(reason: &str) -> Exit {
    Exit { code: None, reason: reason.to_owned(), log: Vec::new(), at: SystemTime::UNIX_EPOCH }
}
