//! What a later balancer must know: the wanted set of every pool, and which processes run it.
//!
//! It is one small JSON file, written whole to a neighbour, synced and renamed, so it is never half of anything. A
//! file that cannot be understood is an error: to begin anew in silence would leave replicas running that nobody
//! knows of. A lock beside it keeps a second balancer away while the first one lives.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::error;

use crate::provider::{ProcessId, Remembered, Spec, Started};

/// Of the file's form. Another one is refused.
const FORMAT: u32 = 1;

/// Why the state of an earlier balancer cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("state file {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("state file {}: its folder belongs to user {owner}, who could replace it", path.display())]
    ForeignFolder { path: PathBuf, owner: u32 },
    #[error("state file {}: another balancer uses it; give each a state_file of its own", path.display())]
    Locked { path: PathBuf },
    #[error(
        "state file {}: {reason}; move it away to start from the configuration, or mend it",
        path.display()
    )]
    Unreadable { path: PathBuf, reason: String },
    #[error(
        "state file {}: it is that of cluster {found:?}, and this is {expected:?}",
        path.display()
    )]
    OtherCluster { path: PathBuf, found: String, expected: String },
}

/// The replicas of each pool that was known.
pub(crate) type Recollection = BTreeMap<String, Vec<Remembered>>;

/// What the writer is told.
pub(super) enum Note {
    /// A pool and its replicas; none if it is to be forgotten.
    Pool(String, Option<Vec<Remembered>>),
    /// Answer once everything before this is written.
    Flush(oneshot::Sender<()>),
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    cluster: String,
    pools: BTreeMap<String, Vec<Entry>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    name: String,
    number: u32,
    incarnation: u64,
    address: Option<SocketAddr>,
    process: Option<ProcessId>,
}

/// The file, held by this process until its end.
pub(crate) struct Memory {
    changes: mpsc::Sender<Note>,
    writer: JoinHandle<()>,
    path: PathBuf,
    /// Unlocked when it is closed by every process that has it.
    lock: File,
}

/// The way for a keeper to the file.
#[derive(Clone)]
pub(crate) struct Scribe(pub(super) mpsc::Sender<Note>);

impl Scribe {
    /// Writes down a pool's replicas, soon. Of several in a row only the last may be written.
    pub(crate) fn note(&self, pool: &str, replicas: Vec<Remembered>) {
        // Fails only if the writer has ended, and with it the balancer.
        let _ = self.0.send(Note::Pool(pool.to_owned(), Some(replicas)));
    }

    /// As if the pool had never been.
    pub(crate) fn forget(&self, pool: &str) {
        // As above.
        let _ = self.0.send(Note::Pool(pool.to_owned(), None));
    }

    /// Waits until everything is written that was noted before.
    pub(crate) async fn flush(&self) {
        let (answer, flushed) = oneshot::channel();
        // As above, and then there is nothing to wait for.
        let _ = self.0.send(Note::Flush(answer));
        let _ = flushed.await;
    }
}

impl Memory {
    /// Takes the file over, and what it says. `held` is the lock of a process that hands over, which is as good as one
    /// of our own if it is that of the same file.
    pub(crate) fn open(
        path: &Path,
        cluster: &str,
        held: Option<File>,
    ) -> Result<(Self, Recollection), MemoryError> {
        let failed = |error| MemoryError::Io { path: path.to_owned(), error };
        if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
            let owner = fs::metadata(folder).map_err(failed)?.uid();
            if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
                return Err(MemoryError::ForeignFolder { path: path.to_owned(), owner });
            }
        }
        let mut lock = options().open(beside(path, "lock")).map_err(failed)?;
        match held.filter(|held| is_same(held, &lock)) {
            Some(held) => lock = held,
            None => lock.try_lock().map_err(|error| match error {
                TryLockError::WouldBlock => MemoryError::Locked { path: path.to_owned() },
                TryLockError::Error(error) => failed(error),
            })?,
        }
        let known = read(path, cluster)?;
        let (changes, inbox) = mpsc::channel();
        let writer = thread::Builder::new()
            .name("state".to_owned())
            .spawn({
                let (path, cluster, pools) = (path.to_owned(), cluster.to_owned(), known.clone());
                move || write_all(&path, &cluster, pools, &inbox)
            })
            .map_err(failed)?;
        Ok((Self { changes, writer, path: path.to_owned(), lock }, known))
    }

    /// The lock, for a process that this one hands over to: it stays locked until both have closed it.
    pub(crate) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    pub(crate) fn scribe(&self) -> Scribe {
        Scribe(self.changes.clone())
    }

    /// Writes what is left to write; with `forget`, removes the file and its folder if that is empty. Every
    /// [`Scribe`] must be gone.
    pub(crate) fn close(self, forget: bool) {
        drop(self.changes);
        // A writer that panicked has said so.
        let _ = self.writer.join();
        if forget {
            for path in [&self.path, &beside(&self.path, "lock")] {
                // Not there, or not ours to remove: nothing more can be done about it at the end.
                let _ = fs::remove_file(path);
            }
            if let Some(folder) = self.path.parent() {
                // Stays if others have files there.
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

fn options() -> OpenOptions {
    let mut options = File::options();
    options.create(true).write(true).truncate(true).mode(0o600);
    options
}

/// `state.json` → `state.json.lock`.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

fn is_same(one: &File, other: &File) -> bool {
    let id = |file: &File| file.metadata().map(|it| (it.dev(), it.ino())).ok();
    id(one).is_some_and(|one| Some(one) == id(other))
}

fn read(path: &Path, cluster: &str) -> Result<Recollection, MemoryError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(MemoryError::Io { path: path.to_owned(), error }),
    };
    let unreadable = |reason| MemoryError::Unreadable { path: path.to_owned(), reason };
    let document: Document =
        serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
    if document.format != FORMAT {
        return Err(unreadable(format!("its format is {}, not {FORMAT}", document.format)));
    }
    if document.cluster != cluster {
        return Err(MemoryError::OtherCluster {
            path: path.to_owned(),
            found: document.cluster,
            expected: cluster.to_owned(),
        });
    }
    let pool = |(name, entries): (String, Vec<Entry>)| {
        let replicas: Result<_, _> = entries.into_iter().map(Remembered::try_from).collect();
        Ok((name, replicas.map_err(unreadable)?))
    };
    document.pools.into_iter().map(pool).collect()
}

fn write_all(path: &Path, cluster: &str, mut known: Recollection, inbox: &mpsc::Receiver<Note>) {
    while let Ok(note) = inbox.recv() {
        let mut flushed = Vec::new();
        let mut is_new = false;
        for note in std::iter::once(note).chain(inbox.try_iter()) {
            match note {
                Note::Pool(pool, Some(replicas)) => drop(known.insert(pool, replicas)),
                Note::Pool(pool, None) => drop(known.remove(&pool)),
                Note::Flush(answer) => {
                    flushed.push(answer);
                    continue;
                }
            }
            is_new = true;
        }
        if is_new && let Err(error) = write(path, cluster, &known) {
            error!(path = %path.display(), %error, "The state file cannot be written");
        }
        // Whoever asked may have gone away.
        for answer in flushed {
            let _ = answer.send(());
        }
    }
}

fn write(path: &Path, cluster: &str, known: &Recollection) -> io::Result<()> {
    let entries = |replicas: &Vec<Remembered>| replicas.iter().map(Entry::from).collect();
    let document = Document {
        format: FORMAT,
        cluster: cluster.to_owned(),
        pools: known.iter().map(|(name, replicas)| (name.clone(), entries(replicas))).collect(),
    };
    let new = beside(path, "new");
    let mut file = options().open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(&document)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The name is kept in the folder: that must reach the disk too.
    match path.parent().filter(|it| !it.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

impl From<&Remembered> for Entry {
    fn from(replica: &Remembered) -> Self {
        Self {
            name: replica.spec.host.to_string(),
            number: replica.spec.number,
            incarnation: replica.spec.incarnation.get(),
            address: replica.started.map(|it| it.addr),
            process: replica.started.and_then(|it| it.process),
        }
    }
}

impl TryFrom<Entry> for Remembered {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        Ok(Self {
            spec: Spec {
                host: entry.name.parse().map_err(|error| format!("{error}"))?,
                number: entry.number,
                incarnation: entry.incarnation.into(),
            },
            started: entry.address.map(|addr| Started { addr, process: entry.process }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, running: bool) -> Remembered {
        let started = Started {
            addr: "127.0.0.1:4000".parse().unwrap(),
            process: Some(ProcessId { pid: 12, started: 34 }),
        };
        Remembered {
            spec: Spec { host: name.parse().unwrap(), number: 3, incarnation: 7.into() },
            started: running.then_some(started),
        }
    }

    fn open(path: &Path) -> Result<(Memory, Recollection), MemoryError> {
        Memory::open(path, "default", None)
    }

    #[test]
    fn what_is_noted_is_known_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/state.json");
        let (memory, known) = open(&path).unwrap();
        assert_eq!(known, BTreeMap::new());
        let replicas = vec![replica("S1", true), replica("S2:5000", false)];
        memory.scribe().note("default", vec![]);
        memory.scribe().note("default", replicas.clone());
        memory.scribe().note("other", replicas.clone());
        memory.scribe().forget("other");
        memory.close(false);

        let (memory, known) = open(&path).unwrap();
        assert_eq!(known, BTreeMap::from([("default".to_owned(), replicas)]));
        memory.close(true);
        assert!(!path.parent().unwrap().exists(), "nothing is left");
    }

    #[test]
    fn what_cannot_be_understood_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for (text, reason) in [
            ("", "EOF"),
            ("{}", "missing field"),
            (r#"{"format":2,"cluster":"default","pools":{}}"#, "its format is 2, not 1"),
            (r#"{"format":1,"cluster":"other","pools":{}}"#, r#"cluster "other""#),
            (r#"{"format":1,"cluster":"default","pools":{},"more":1}"#, "unknown field"),
            (
                r#"{"format":1,"cluster":"default","pools":{"p":[{"name":"a b","number":1,"incarnation":1,"address":null,"process":null}]}}"#,
                "bad name",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = open(&path).err().expect(text).to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_second_balancer_is_kept_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (first, _) = open(&path).unwrap();
        assert!(matches!(open(&path), Err(MemoryError::Locked { .. })));
        first.close(false);
        assert!(open(&path).is_ok());
    }

    #[tokio::test]
    async fn a_lock_that_was_handed_over_is_never_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let (first, _) = open(&path).unwrap();
        first.scribe().note("default", vec![replica("S1", true)]);
        first.scribe().flush().await;
        let lock = first.lock().unwrap();
        let (second, known) = Memory::open(&path, "default", Some(lock)).unwrap();
        assert_eq!(known["default"], [replica("S1", true)]);
        first.close(false);
        assert!(matches!(open(&path), Err(MemoryError::Locked { .. })), "the second one has it");
        second.close(false);
        let (third, _) = open(&path).unwrap();
        let foreign = File::create(folder.path().join("other.lock")).unwrap();
        let refused = Memory::open(&path, "default", Some(foreign));
        assert!(matches!(refused, Err(MemoryError::Locked { .. })), "it is that of another file");
        third.close(true);
    }
}
