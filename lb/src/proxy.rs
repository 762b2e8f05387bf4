//! A request's way through the balancer, as Pingora's [`ProxyHttp`] phases.
//!
//! ```text
//!   Front (limits, head) → early_request_filter (deadlines) → request_filter (reserved path? route, key)
//!     → upstream_peer (pick) ⇄ fail_to_connect / error_while_proxy (next candidate) → response_filter → logging
//! ```
//!
//! What one request has learnt lives in its [`RequestCtx`]; it ends in [`ProxyHttp::logging`] on every path, where
//! its lease is given back and it is counted exactly once. No lock, no channel and no label look-up on this path.

mod access_log;
mod answer;
mod connections;
mod context;
mod fields;
mod forward;
mod framing;
mod front;
#[cfg(any(fuzzing, test))]
mod fuzz;
mod guard;
mod handshake;
mod ids;
mod key;
mod ledger;
mod passed;
mod reserved;

use std::{net::IpAddr, os::fd::RawFd, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, Version, header};
use ipnet::IpNet;
use pingora::{
    Error, ErrorSource, ErrorType, Result,
    http::{RequestHeader, ResponseHeader},
    modules::http::HttpModules,
    prelude::HttpPeer,
    protocols::Digest,
    proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session},
};
use tokio_rustls::TlsAcceptor;

#[cfg(any(fuzzing, test))]
pub(crate) use self::fuzz::{fuzz_chunks, fuzz_frames, fuzz_head, fuzz_key};
pub(crate) use self::{
    access_log::AccessLog, connections::Connections, front::Front, ledger::Ledger,
};
use self::{
    context::{NO_ROUTE, OVERLOAD, RequestCtx},
    forward::AnswerLength,
    ids::Ids,
    key::KeyText,
    ledger::Entry,
};
use crate::{
    config::{ClientConfig, Config},
    descriptors,
    metrics::{Ending, Failure, RetryCause},
    routes::{NoReplica, Pick, Placing, Router},
};

/// How long a rest of a request's body, which nobody wants any more, is read before the connection is given up.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The proxy's part in every request.
pub(crate) struct Proxy {
    settings: Arc<ArcSwap<Settings>>,
    /// Answers the reserved paths.
    admin: axum::Router,
    ledger: Ledger,
    ids: Ids,
}

/// What a configuration says of requests. Each request keeps to that which it began with, unless its pool is let go of
/// before it has a replica.
pub(crate) struct Settings {
    router: Router,
    client: ClientConfig,
    trusted_proxies: Vec<IpNet>,
    reserved_paths: Vec<String>,
    explain_header: bool,
    tls: Option<TlsAcceptor>,
    handshake_timeout: Duration,
}

impl Proxy {
    pub(crate) fn new(
        settings: Arc<ArcSwap<Settings>>,
        admin: axum::Router,
        ledger: Ledger,
        seed: u64,
    ) -> Self {
        Self { settings, admin, ledger, ids: Ids::new(seed) }
    }

    /// Finds the pool of a request, and what the request is placed by there.
    fn route(&self, header: &RequestHeader, ctx: &mut RequestCtx) -> Result<()> {
        let Some(pool) = ctx.settings.router.pool(forward::host(header), header.uri.path()) else {
            return ctx.refuse(NO_ROUTE);
        };
        let Some(pool) = pool.admit() else {
            return ctx.refuse(OVERLOAD);
        };
        let hash = match &pool.placing {
            Placing::ByKey(source) => {
                let client = || forward::client(header, ctx.peer, |addr| ctx.settings.trusts(addr));
                pool.hash(KeyText::of(source, header, client, &self.ids).as_bytes())
            }
            Placing::InTurn => pool.next_ticket(),
            Placing::ByChance => self.ids.draw(),
        };
        ctx.route = Some((pool, hash));
        Ok(())
    }

    /// Chooses a replica. When a reload lets go of the pool before there was one, the request belongs to another pool, or
    /// to none. Each turn of the loop needs a reload of its own.
    async fn choose(
        &self,
        header: &RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<std::result::Result<Pick, NoReplica>> {
        loop {
            let Some((pool, hash)) = &ctx.route else { return ctx.refuse(NO_ROUTE) };
            match pool.pick(*hash, &ctx.tried, || forward::weight(header)).await {
                Err(NoReplica::PoolGone) => {
                    let settings = self.settings.load_full();
                    if Arc::ptr_eq(&settings, &ctx.settings) {
                        return Ok(Err(NoReplica::PoolGone));
                    }
                    ctx.settings = settings;
                    self.route(header, ctx)?;
                }
                Ok(pick) => {
                    pool.metrics.selected(pick.reason);
                    return Ok(Ok(pick));
                }
                Err(reason) => return Ok(Err(reason)),
            }
        }
    }
}

impl Settings {
    pub(crate) fn new(config: &Config, router: Router, tls: Option<TlsAcceptor>) -> Self {
        let connections_max = descriptors::connections_max(config.client.connections_max);
        Self {
            router,
            client: ClientConfig { connections_max, ..config.client.clone() },
            trusted_proxies: config.trusted_proxies.clone(),
            reserved_paths: config.admin.reserved_paths.clone(),
            explain_header: config.explain_header,
            tls,
            handshake_timeout: config.tls.handshake_timeout,
        }
    }

    fn trusts(&self, addr: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&addr))
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = RequestCtx;

    fn new_ctx(&self) -> RequestCtx {
        RequestCtx::begin(self.settings.load_full())
    }

    /// None: Pingora's default installs compression, which costs a box per request even when it is off.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        // Pingora keeps HTTP/1.1 connections for ever unless told otherwise on each request.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(ctx.settings.client.keepalive_timeout.as_secs().max(1)));
        }
        session.set_read_timeout(Some(ctx.settings.client.read_timeout));
        session.set_write_timeout(Some(ctx.settings.client.write_timeout));
        session.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        ctx.peer = session
            .client_addr()
            .and_then(|addr| addr.as_inet())
            .map(|addr| addr.ip().to_canonical());
        let header = session.req_header_mut();
        if header.version == Version::HTTP_2 {
            let limits = framing::Limits::of(&ctx.settings.client);
            return match framing::read_http2_head(header, &limits) {
                Ok(has_claims) => {
                    ctx.link.set_claims(has_claims);
                    Ok(())
                }
                Err(fault) => ctx.refuse(fault),
            };
        }
        // Interim answers are unknown to HTTP/1.0.
        let is_1_0 = header.version == Version::HTTP_10;
        session.set_ignore_info_resp(is_1_0);
        fields::of_request(session.req_header_mut(), |_| ());
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        let header = session.req_header();
        if ctx.settings.reserved_paths.iter().any(|it| it == header.uri.path()) {
            reserved::answer(session, ctx.peer, &self.admin, ctx.settings.client.read_timeout)
                .await?;
            return Ok(true);
        }
        ctx.link.allow_cancelling();
        self.route(header, ctx).map(|()| false)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        // Those of HTTP/1 have been looked after as they came.
        if session.req_header().version == Version::HTTP_2 {
            let came = ctx.link.upload.came(body.as_ref().map_or(0, Bytes::len), end_of_stream);
            if came > ctx.settings.client.body_bytes_max {
                return ctx.refuse(framing::BODY_TOO_LARGE);
            }
        }
        // Pingora 0.9.1 writes an empty last chunk as a terminator of its own, and then the terminator: the
        // second would be taken for the start of the next answer's request.
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        Ok(())
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<Box<HttpPeer>> {
        // Given back before the next choice, or the failed attempt would count against the bound.
        ctx.pick = None;
        match self.choose(session.req_header(), ctx).await? {
            Ok(pick) => {
                let is_handshake = session.is_upgrade_req();
                let mut peer = match is_handshake || ctx.tried.needs_fresh_connection() {
                    true => Box::new(pick.lease.peer_for_fresh_connection()),
                    false => Box::new(pick.lease.peer.clone()),
                };
                if is_handshake {
                    handshake::prepare(&mut peer);
                }
                ctx.tried.add(&pick.lease);
                ctx.pick = Some(pick);
                Ok(peer)
            }
            Err(reason) => {
                // What went wrong at the replicas that were tried says more than that there was no other.
                let is_told = ctx.failure.is_some() && reason != NoReplica::RetryBudget;
                if !is_told {
                    ctx.failure = Some(reason.into());
                }
                let status = match (is_told, ctx.has_timed_out) {
                    (true, true) => 504,
                    (true, false) => 502,
                    (false, _) => 503,
                };
                Error::e_explain(ErrorType::HTTPStatus(status), "no replica is available")
            }
        }
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: RawFd,
        _: Option<&Digest>,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        if !reused && let Some(pick) = &ctx.pick {
            pick.lease.metrics.connections.inc();
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        let received = session.req_header();
        let trusted = ctx.peer.is_some_and(|addr| ctx.settings.trusts(addr));
        ctx.link.upload.begin();
        let id = ctx.request_id.get_or_insert_with(|| self.ids.request_id(received, trusted));
        fields::of_request(request, |sent| {
            if !trusted && ctx.link.has_claims() {
                forward::remove_claims(sent);
            }
            forward::request(sent, ctx.peer, trusted, received.version, ctx.link.is_secure)?;
            forward::request_id(sent, id);
            match &ctx.pick {
                Some(pick) if received.version == Version::HTTP_10 => {
                    forward::as_1_1(sent, pick.lease.addr)
                }
                _ => Ok(()),
            }
        })
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        _: &mut RequestCtx,
    ) -> Result<()> {
        // Passed on, a 101 would make a tunnel of a connection that carries requests.
        let is_unasked =
            response.status == StatusCode::SWITCHING_PROTOCOLS && !session.is_upgrade_req();
        match forward::answer_length(response) {
            AnswerLength::Plain if !is_unasked => Ok(()),
            AnswerLength::Padded(length) if !is_unasked => {
                response.insert_header(header::CONTENT_LENGTH, length)
            }
            _ => {
                let error =
                    Error::explain(ErrorType::InvalidHTTPHeader, "a bad answer of a replica");
                Err(error.into_up())
            }
        }
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        if !response.status.is_informational() {
            ctx.link.forbid_cancelling();
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            ctx.link.make_tunnel();
            // Who only listens is not slow; that the replica is silent, too, has a limit of its own.
            session.set_read_timeout(None);
        } else if ctx.link.is_closing() {
            session.set_keepalive(None);
        }
        // Pingora would send chunks to whoever cannot read them: they get a body that ends with the connection.
        if session.req_header().version == Version::HTTP_10
            && response.remove_header(&header::TRANSFER_ENCODING).is_some()
        {
            session.set_keepalive(None);
        }
        forward::response(response)?;
        if ctx.settings.explain_header
            && let Some(pick) = &ctx.pick
        {
            let value = format!("{}; reason={}", pick.lease.name, pick.reason);
            response.insert_header(forward::X_RINGMASTER, value)?;
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut RequestCtx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let (Some((pool, _)), Some(pick)) = (&ctx.route, &ctx.pick) {
            ctx.tried.failed(pick.lease.suspicions.raise());
            pool.connect_failed(&pick.lease);
        }
        if *error.etype() == ErrorType::ConnectRefused {
            ctx.tried.was_refused();
        }
        ctx.failure = Some(Failure::Connect);
        ctx.has_timed_out = false;
        // Nothing was sent, so any method may go to the next candidate.
        let retry = ctx.attempts_left();
        if retry {
            ctx.retried(RetryCause::Connect);
        }
        error.set_retry(retry);
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut RequestCtx,
        is_reused: bool,
    ) -> Box<Error> {
        let upstream = *error.esource() == ErrorSource::Upstream;
        if upstream && let Some(pick) = &ctx.pick {
            ctx.tried.failed(pick.lease.suspicions.raise());
        }
        ctx.has_timed_out = *error.etype() == ErrorType::ReadTimedout;
        let answered = session.response_written().is_some();
        // Who answers badly is alive, and what it was asked is done.
        let is_bad = *error.etype() == ErrorType::InvalidHTTPHeader;
        let replayable = session.req_header().method.is_idempotent()
            && !session.as_ref().retry_buffer_truncated();
        ctx.failure = Some(match (upstream, answered, replayable) {
            (false, _, _) => Failure::Client,
            (true, true, _) => Failure::BrokenAnswer,
            (true, false, _) if is_bad => Failure::BadAnswer,
            (true, false, false) => Failure::NotRetryable,
            (true, false, true) => Failure::RetriesExhausted,
        });
        // A replica may close a kept connection just as a request is sent on it. That is no failure of the replica, so the
        // request goes there again. Once: on a fresh connection, a failure is one.
        let is_stale = is_reused && !ctx.has_timed_out && !ctx.tried.needs_fresh_connection();
        let retry =
            upstream && !answered && !is_bad && replayable && (is_stale || ctx.attempts_left());
        if retry {
            match is_stale {
                true => ctx.tried.was_stale(),
                false => ctx.tried.was_sent(),
            }
            ctx.retried(RetryCause::Reset);
        }
        error.set_retry(retry);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestCtx,
    ) -> FailToProxy {
        if let Some(fault) = answer::fault(error) {
            ctx.fault = Some(fault);
        } else if ctx.failure.is_none() && *error.esource() == ErrorSource::Downstream {
            ctx.failure = Some(Failure::Client);
        }
        ctx.link.forbid_cancelling();
        let error_code = answer::failure(session, error, ctx.fault).await;
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut RequestCtx) {
        if !ctx.link.end_request() {
            return;
        }
        let status = session.response_written().map_or(0, |it| it.status.as_u16());
        let took = ctx.began.elapsed();
        let ending = ctx.ending(status, error.is_some());
        match (ending, &ctx.route, &ctx.pick) {
            (Ending::Ok | Ending::UpstreamError, Some((pool, _)), Some(pick)) => {
                pick.lease.metrics.answered(status, took);
                pool.answered(&pick.lease, status);
            }
            (Ending::Failed(failure), Some((pool, _)), _) => pool.metrics.failed(failure),
            _ => {}
        }
        let header = session.req_header();
        self.ledger.ended(ending, || Entry {
            client: forward::client(header, ctx.peer, |addr| ctx.settings.trusts(addr)),
            peer: ctx.peer,
            method: Some(&header.method),
            path: Some(header.uri.path()),
            status,
            pick: ctx.pick.as_ref(),
            attempts: ctx.tried.attempts(),
            request_id: ctx.request_id.as_ref(),
            took,
        });
    }

    /// Failed requests are counted with their reasons, and the access log has them; a line at level ERROR for
    /// each would be the attacker's to write.
    fn suppress_error_log(&self, _: &Session, _: &RequestCtx, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &RequestCtx,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
