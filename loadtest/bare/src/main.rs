//! A bare Pingora proxy, to tell what of Ringmaster's cost is Pingora's: round robin over fixed addresses, and nothing
//! else. Arguments: LISTEN THREADS [tls=LISTEN,DIR] BACKEND…, where DIR holds `certificate.pem` and `key.pem`.

use std::{
    env,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Context;
use async_trait::async_trait;
use pingora::{
    Result,
    modules::http::HttpModules,
    prelude::{HttpPeer, Server},
    proxy::{ProxyHttp, Session, http_proxy_service},
    server::configuration::ServerConf,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct RoundRobin {
    peers: Vec<HttpPeer>,
    turn: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for RoundRobin {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.peers.len();
        Ok(Box::new(self.peers[turn].clone()))
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [listen, threads, backends @ ..] = &arguments[..] else {
        anyhow::bail!("the arguments are LISTEN THREADS BACKEND…");
    };
    let threads = threads.parse().context("THREADS")?;
    let secure = backends.first().and_then(|it| it.strip_prefix("tls="));
    let backends = &backends[usize::from(secure.is_some())..];
    let peers = backends
        .iter()
        .map(|backend| {
            Ok(HttpPeer::new(backend.parse::<std::net::SocketAddr>()?, false, String::new()))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    anyhow::ensure!(!peers.is_empty(), "at least one BACKEND is needed");
    let conf = ServerConf { threads, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = RoundRobin { peers, turn: AtomicUsize::new(0) };
    let mut service = http_proxy_service(&server.configuration, proxy);
    service.add_tcp(listen);
    if let Some((listen, dir)) = secure.and_then(|it| it.split_once(',')) {
        let file = |name: &str| format!("{dir}/{name}.pem");
        service
            .add_tls(listen, &file("certificate"), &file("key"))
            .map_err(|error| anyhow::anyhow!("tls: {error}"))?;
    }
    server.add_service(service);
    server.run_forever()
}
