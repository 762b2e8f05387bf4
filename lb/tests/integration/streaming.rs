//! Long answers: they flow as fast as their client takes them, and what it has not taken waits at the replica.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

use crate::harness::{Balancer, DEADLINE, backend::OK, until};

const MIB: u64 = 1 << 20;
const ANSWER_BYTES: u64 = 100 * MIB;
const READERS: usize = 8;

/// For all readers together, of the 800 MiB that they ask for: about 1 MiB each, and what the allocator keeps. What the
/// sockets' buffers hold is the kernel's, and not counted.
const GROWTH_MAX: u64 = 64 * MIB;

/// So many looks without a byte from the replica, and it is held up.
const STILL: usize = 50;

const BLOCK: &[u8] = &[b'x'; 64 << 10];
const LENGTH_HEAD: &str = "Content-Length: 104857600";
const CHUNKED_HEAD: &str = "Transfer-Encoding: chunked";

/// A replica with long answers, framed as `head` says, and what it has sent of them.
async fn torrent(head: &'static str) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, head, counted.clone()));
        }
    });
    (addr, sent)
}

async fn answer(stream: TcpStream, head: &'static str, sent: Arc<AtomicU64>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let asked = read_head(&mut stream).await?;
        if asked.starts_with("GET /heartbeat ") {
            stream.write_all(OK).await.ok()?;
            continue;
        }
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes()).await.ok()?;
        let chunked = head == CHUNKED_HEAD;
        for _ in 0..ANSWER_BYTES / BLOCK.len() as u64 {
            if chunked {
                stream.write_all(format!("{:x}\r\n", BLOCK.len()).as_bytes()).await.ok()?;
            }
            stream.write_all(BLOCK).await.ok()?;
            if chunked {
                stream.write_all(b"\r\n").await.ok()?;
            }
            sent.fetch_add(BLOCK.len() as u64, Ordering::Relaxed);
        }
        if chunked {
            stream.write_all(b"0\r\n\r\n").await.ok()?;
        }
    }
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Asks, and takes nothing but the head.
async fn ask(proxy: SocketAddr) -> BufReader<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    // Or the kernel would take megabytes in the reader's stead.
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut stream = BufReader::new(socket.connect(proxy).await.unwrap());
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let head = timeout(DEADLINE, read_head(&mut stream)).await.expect("a head in time").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    stream
}

/// The most that a process has ever had in memory.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Takes what is left of an answer: so many bytes.
async fn take_all(mut body: BufReader<TcpStream>) -> u64 {
    let (mut bytes, mut received) = (vec![0; MIB as usize], 0);
    loop {
        let read = timeout(DEADLINE, body.read(&mut bytes)).await.expect("more in time");
        match read.unwrap() {
            0 => return received,
            count => received += count as u64,
        }
    }
}

#[tokio::test]
async fn what_slow_readers_have_not_taken_waits_at_the_replica() {
    for head in [LENGTH_HEAD, CHUNKED_HEAD] {
        let (replica, sent) = torrent(head).await;
        let balancer = Balancer::start(&format!(
            "pools: {{ default: {{ provider: fixed, fixed: {{ S1: '{replica}' }} }} }}\n\
             client: {{ write_timeout_ms: 600000 }}"
        ))
        .await;
        // What any first request costs is not the readers'.
        take_all(ask(balancer.proxy).await).await;
        let (before, sent_before) = (peak_bytes(balancer.pid()), sent.load(Ordering::Relaxed));
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(ask(balancer.proxy).await);
        }
        let (mut last, mut looks) = (0, 0);
        let held_up = async || {
            let now = sent.load(Ordering::Relaxed);
            looks = if now == last { looks + 1 } else { 0 };
            last = now;
            (looks >= STILL).then_some(now - sent_before)
        };
        let ahead = until("the replica is held up", held_up).await.unwrap();
        let asked = READERS as u64 * ANSWER_BYTES;
        assert!(ahead < asked, "{head}: all {asked} bytes were taken from the replica");
        let grown = peak_bytes(balancer.pid()) - before;
        assert!(grown < GROWTH_MAX, "{head}: {grown} bytes more for {READERS} readers");

        // Whoever takes it up again gets all of it, and memory does not grow with what flows.
        let received = take_all(readers.pop().unwrap()).await;
        assert!(received >= ANSWER_BYTES, "{head}: {received} bytes came");
        let grown = peak_bytes(balancer.pid()) - before;
        assert!(grown < GROWTH_MAX, "{head}: {grown} bytes more after {received}");
        drop(readers);
        balancer.stop().await;
    }
}
