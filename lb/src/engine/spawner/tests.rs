//! The two sides of the socket, in front of an engine that keeps its containers in memory.

mod guests;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Mutex,
};

use async_trait::async_trait;
use nix::unistd::getuid;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, task::JoinHandle};

use super::*;
use crate::engine::{Claim, Claims, ContainerLimits, End, Holder, Remote};

/// What is allowed here.
pub(super) fn policy() -> Policy {
    let set = |texts: &[&str]| texts.iter().map(|&it| it.to_owned()).collect();
    Policy {
        cluster: "a".to_owned(),
        images: set(&["i:1", "j"]),
        networks: set(&["net1"]),
        limits: ContainerLimits { memory_bytes: 1_000, cpu_millis: 100, pids: 10 },
        replicas_max: 3,
        environment: set(&["SERVER_ID", "MODE"]),
        commands: false,
        writable: false,
    }
}

/// An order that just keeps within it.
pub(super) fn order(name: &str) -> Order {
    Order {
        cluster: "a".to_owned(),
        pool: "default".to_owned(),
        name: name.to_owned(),
        number: 1,
        incarnation: 1,
        image: "i:1".to_owned(),
        command: Vec::new(),
        environment: [("SERVER_ID".to_owned(), "1".to_owned())].into(),
        network: "net1".to_owned(),
        port: 5000,
        limits: policy().limits,
        read_only: true,
    }
}

/// A claim of a balancer.
pub(super) fn claim() -> Claim {
    let holder = Holder {
        session: "s".to_owned(),
        pid: 1,
        started: 2,
        boot: "b".to_owned(),
        pid_namespace: "pid:[1]".to_owned(),
        container: None,
        host: "h".to_owned(),
        admin: "127.0.0.1:5001".to_owned(),
        since: "2026-01-01T00:00:00.000Z".to_owned(),
    };
    Claim { generation: 1, holder }
}

#[derive(Default)]
struct Memory {
    orders: Mutex<Vec<Order>>,
}

impl Memory {
    fn orders(&self) -> Vec<Order> {
        self.orders.lock().unwrap().clone()
    }
}

fn container(order: &Order) -> Container {
    Container {
        id: format!("{}-{}", order.name, order.incarnation),
        pool: order.pool.clone(),
        name: order.name.clone(),
        number: order.number,
        incarnation: order.incarnation,
        spec_hash: order.hash(),
        running: true,
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: order.port,
    }
}

fn end() -> End {
    let log = vec!["its last words".to_owned()];
    End { code: Some(7), reason: "exit 7".to_owned(), log, by_itself: true }
}

#[async_trait]
impl Claims for Memory {
    async fn claim(&self, _: &str, claim: Option<&Claim>) -> Result<Option<Claim>, EngineError> {
        Ok(claim.cloned())
    }

    async fn release(&self, _: &str, _: &str) -> Result<(), EngineError> {
        Ok(())
    }
}

#[async_trait]
impl Engine for Memory {
    async fn ensure(&self, order: &Order) -> Result<Container, EngineError> {
        // Others get a turn between the check and what it allowed.
        tokio::task::yield_now().await;
        let mut orders = self.orders.lock().unwrap();
        orders.retain(|it| it.name != order.name);
        orders.push(order.clone());
        Ok(container(order))
    }

    async fn stop(
        &self,
        _: &str,
        name: &str,
        _: u64,
        _: Option<Duration>,
    ) -> Result<Option<End>, EngineError> {
        self.orders.lock().unwrap().retain(|it| it.name != name);
        Ok(Some(end()))
    }

    async fn inspect(&self, _: &str) -> Result<Vec<Container>, EngineError> {
        Ok(self.orders().iter().map(container).collect())
    }

    async fn logs(&self, _: &str, name: &str, lines: usize) -> Result<Vec<String>, EngineError> {
        Ok(vec![format!("{lines} of {name}")])
    }

    async fn events(&self, _: &str, happenings: mpsc::Sender<Happening>) {
        let _ = happenings.send(Happening::Gap).await;
        happenings.closed().await;
    }
}

/// A spawner that listens.
struct Served {
    engine: Arc<Memory>,
    folder: TempDir,
    serving: JoinHandle<()>,
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Arc::<Memory>::default();
        let serving = Self::serve(&folder.path().join("socket"), &engine, [getuid().as_raw()]);
        Self { engine, folder, serving }
    }

    fn serve<const N: usize>(path: &Path, engine: &Arc<Memory>, users: [u32; N]) -> JoinHandle<()> {
        let spawner = Spawner::new(engine.clone(), policy(), users.into());
        let socket = Socket::bind(path, None).unwrap();
        tokio::spawn(async move { spawner.serve(&socket.listener).await })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn remote(&self) -> Remote {
        Remote::new(&self.socket())
    }
}

fn refused<T>(answer: Answer<T>) -> String {
    match answer {
        Err(EngineError::Refused(text)) => text,
        Err(other) => panic!("not refused, but: {other:?}"),
        Ok(_) => panic!("not refused"),
    }
}

fn unreachable<T>(answer: Answer<T>) -> String {
    match answer {
        Err(EngineError::Unreachable(text)) => text,
        Err(other) => panic!("not unreachable, but: {other:?}"),
        Ok(_) => panic!("reached"),
    }
}

#[tokio::test]
async fn a_balancer_has_the_seven_verbs() {
    let served = Served::start();
    let remote = served.remote();
    let made = remote.ensure(&order("S1")).await.unwrap();
    assert_eq!(made, container(&order("S1")));
    assert_eq!(remote.inspect("a").await.unwrap(), [made]);
    assert_eq!(remote.logs("a", "S1", 20).await.unwrap(), ["20 of S1"]);
    let stopped = remote.stop("a", "S1", 1, Some(Duration::from_secs(5))).await;
    assert_eq!(stopped, Ok(Some(end())));
    assert_eq!(remote.inspect("a").await.unwrap(), []);
    assert_eq!(remote.claim("a", Some(&claim())).await, Ok(Some(claim())));
    assert_eq!(remote.claim("a", None).await, Ok(None));
    assert_eq!(remote.release("a", "s").await, Ok(()));
    let (sender, mut happenings) = mpsc::channel(1);
    let listening = tokio::spawn(async move { remote.events("a", sender).await });
    assert_eq!(happenings.recv().await, Some(Happening::Gap));
    drop(happenings);
    listening.await.unwrap();
}

#[tokio::test]
async fn what_is_refused_reaches_no_engine() {
    let served = Served::start();
    let remote = served.remote();
    let image = refused(remote.ensure(&Order { image: "alpine".into(), ..order("S1") }).await);
    assert_eq!(image, "image \"alpine\" is not allowed; allowed are: i:1, j");
    remote.ensure(&order("S1")).await.unwrap();
    refused(remote.stop("b", "S1", 1, None).await);
    refused(remote.inspect("b").await);
    refused(remote.claim("b", Some(&claim())).await);
    refused(remote.release("b", "s").await);
    assert_eq!(served.engine.orders(), [order("S1")]);
}

#[tokio::test]
async fn orders_at_the_same_time_do_not_exceed_the_number_of_replicas() {
    let served = Served::start();
    let remote = Arc::new(served.remote());
    let orders = (1..=10).map(|number| {
        let remote = remote.clone();
        tokio::spawn(async move { remote.ensure(&order(&format!("S{number}"))).await })
    });
    let mut made = 0;
    for order in orders.collect::<Vec<_>>() {
        match order.await.unwrap() {
            Ok(_) => made += 1,
            answer => assert_eq!(
                refused(answer),
                "there are 3 containers; allowed are 3 (--replicas-max)"
            ),
        }
    }
    assert_eq!((made, served.engine.orders().len()), (3, 3));
    let again = Order { incarnation: 2, ..served.engine.orders().remove(0) };
    remote.ensure(&again).await.unwrap();
    remote.stop("a", &again.name, 2, None).await.unwrap();
    remote.ensure(&order("S11")).await.unwrap();
}

#[tokio::test]
async fn another_user_may_not_even_ask() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let other = getuid().as_raw() + 1;
    let _serving = Served::serve(&path, &Arc::default(), [other]);
    let text = refused(Remote::new(&path).inspect("a").await);
    let uid = getuid();
    assert_eq!(text, format!("user {uid} may not ask here; allowed are: {other} (--allow-uid)"));
}

#[tokio::test]
async fn a_spawner_that_comes_back_is_found_and_a_gap_is_told() {
    let served = Served::start();
    let remote = served.remote();
    let (sender, mut happenings) = mpsc::channel(1);
    let listening = served.remote();
    tokio::spawn(async move { listening.events("a", sender).await });
    assert_eq!(happenings.recv().await, Some(Happening::Gap));
    served.serving.abort();
    let _ = served.serving.await;
    let gone = unreachable(remote.inspect("a").await);
    let socket = served.folder.path().join("socket");
    assert!(gone.starts_with(&format!("no spawner answers at {}", socket.display())), "{gone}");
    assert!(gone.contains("is `ringmaster spawner` running?"), "{gone}");
    let _serving = Served::serve(&socket, &served.engine, [getuid().as_raw()]);
    let mut losses = 0;
    loop {
        match happenings.recv().await {
            Some(Happening::Lost(EngineError::Unreachable(_))) => losses += 1,
            heard => break assert_eq!(heard, Some(Happening::Gap)),
        }
    }
    assert!(losses > 0, "it was told that the spawner is gone");
    assert_eq!(remote.inspect("a").await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_spawner_that_hangs_holds_nobody_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let text = unreachable(Remote::new(&path).inspect("a").await);
    assert!(text.contains("has not answered within 5 s; does it hang?"), "{text}");
}

#[tokio::test]
async fn a_spawner_of_another_version_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"{\"Ok\":3}\n").await.unwrap();
    });
    let error = Remote::new(&path).inspect("a").await.unwrap_err().to_string();
    assert!(error.contains("speaks version 3, this balancer 2"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_told_from_a_dead_one() {
    let served = Served::start();
    let remote = served.remote();
    let (sender, mut happenings) = mpsc::channel(1);
    tokio::spawn(async move { remote.events("a", sender).await });
    assert_eq!(happenings.recv().await, Some(Happening::Gap));
    let quiet = timeout(wire::PULSE * 100, happenings.recv()).await;
    assert!(quiet.is_err(), "nothing happens: {quiet:?}");

    let path = served.folder.path().join("dead");
    let listener = UnixListener::bind(&path).unwrap();
    let (sender, mut happenings) = mpsc::channel(1);
    tokio::spawn(async move { Remote::new(&path).events("a", sender).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"{\"Ok\":2}\n{\"Ok\":\"Gap\"}\n").await.unwrap();
    assert_eq!(happenings.recv().await, Some(Happening::Gap));
    let Some(Happening::Lost(error)) = happenings.recv().await else { panic!("not lost") };
    assert!(error.to_string().contains("has not answered within 15 s"), "{error}");
}
