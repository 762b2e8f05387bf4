//! The router as its two doors see it, in front of a supervisor that obeys at once ([`fake`]).

mod chance;
mod classic;
mod contract;
mod doors;
mod events;
pub(in crate::admin) mod fake;
mod v1;

use self::contract::CONTRACT;
use super::*;
use crate::{
    config::{Config, Loaded, Source},
    engine::{Holds, Origin},
    metrics::Metrics,
    reload::{InForce, Reloader},
    upgrade::Stage,
};
use axum::{body::Body, http::HeaderMap};
use http::Request;
use http_body_util::BodyExt;
use ringmaster_fleet::Algorithm;
use serde_json::{Value, json};
use std::{net::IpAddr, path::PathBuf, sync::Mutex};
use tokio::sync::watch;
use tower::ServiceExt;

const LOCAL: &str = "127.0.0.1";
const STRANGER: &str = "192.0.2.1";

/// The API in front of the pools `default`, with three replicas, and `any`, with one and no keys.
struct Api(Router);

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Api {
    fn start() -> Self {
        let access = Access::load(&crate::config::Config::default().admin);
        Self::with(access.ok().unwrap())
    }

    fn with(access: Access) -> Self {
        let keyed = Algorithm::Rendezvous { slots: 1_024 };
        let supervisor = fake::start([("default", keyed, 3), ("any", Algorithm::RoundRobin, 1)]);
        Self::over(supervisor, access)
    }

    fn over(handle: Handle, access: Access) -> Self {
        Self::telling(handle, access, crate::events::channel().1)
    }

    fn telling(handle: Handle, access: Access, events: Events) -> Self {
        let documented = concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/ringmaster.yaml");
        Self::reading(handle, access, events, Some(documented.into()))
    }

    /// As if the balancer was started with the configuration at `path`.
    fn reading(handle: Handle, access: Access, events: Events, path: Option<PathBuf>) -> Self {
        let config = Config::default();
        let pool = config.pools["default"].clone();
        let pools = ["default", "any"].map(|name| (name.to_owned(), pool.clone()));
        let metrics = || "ringmaster_build_info 1\n".to_owned();
        let loaded = Loaded::read(None).unwrap();
        let effective = loaded.effective.masked();
        let rules = Rules { pools: pools.into(), access, effective };
        let routed = Config { routes: Vec::new(), ..config };
        let in_force = InForce::new(&routed, None, rules, Vec::new());
        let all_metrics = Arc::new(Metrics::new().unwrap());
        let rules = in_force.rules.clone();
        let source = Source { path, ..Source::default() };
        let reloader = Reloader::new(source, loaded, handle.clone(), all_metrics, in_force);
        let (reloader, metrics) = (Arc::new(reloader), Arc::new(metrics));
        let upgrader = Arc::new(Upgrader {
            handle: handle.clone(),
            cluster: routed.cluster,
            program: "/no/such/program".into(),
            arguments: Vec::new(),
            sockets: Arc::default(),
            holds: Arc::new(Holds::new(
                "default",
                Origin {
                    admin: ([127, 0, 0, 1], 0).into(),
                    since: String::new(),
                    predecessor: None,
                    take_over: false,
                },
            )),
            lock: Mutex::default(),
            stage: watch::Sender::new(Stage::Running),
            is_accepting: watch::Sender::new(true).subscribe(),
            is_busy: AtomicBool::new(false),
        });
        let state = AdminState::new(handle, rules, reloader, upgrader, metrics, events);
        Self(router(state))
    }

    /// The answer, which is one that the document knows.
    async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let Ok(response) = self.0.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer = Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        CONTRACT.check(&method, &path, &answer);
        answer
    }

    /// Sends what a client on this machine sends to the admin listener: status and body.
    async fn ask(&self, method: &str, target: &str, body: &str) -> (u16, String) {
        let answer = self.send(request(method, target, body)).await;
        (answer.status, answer.body)
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The word for scripts in a v1 error.
    fn code(&self) -> String {
        let json = self.json();
        json["error"]["code"].as_str().unwrap_or("").to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn request(method: &str, target: &str, body: &str) -> Request<Body> {
    from(LOCAL, Door::Admin, method, target, body)
}

fn from(addr: &str, door: Door, method: &str, target: &str, body: &str) -> Request<Body> {
    let addr: IpAddr = addr.parse().unwrap();
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "127.0.0.1:5001")
        .extension(Caller { addr, door })
        .body(Body::from(body.to_owned()))
        .unwrap()
}

/// `request` with one more header.
fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}
