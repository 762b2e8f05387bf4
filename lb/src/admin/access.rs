//! [`Access`]: who may call. Either the address is trusted, or a token from a file is presented.

mod lockout;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use self::tokens::AccessError;
use self::{
    lockout::Lockout,
    tokens::{Token, read_tokens},
};
use super::refusal::{Code, Refusal};
use crate::config::AdminConfig;
use axum::http::HeaderValue;
use ipnet::IpNet;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, PoisonError},
    time::Instant,
};
use subtle::ConstantTimeEq;
use tracing::warn;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Look, and change nothing.
    Read,
    Admin,
}

/// Who asks, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) role: Role,
    pub(super) proof: Proof,
}

/// Why somebody is an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Address,
    /// By the token's fingerprint: what `printf %s TOKEN | b2sum -l 32` prints.
    Token([u8; 4]),
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Token(fingerprint) => write!(f, "token {:08x}", u32::from_be_bytes(*fingerprint)),
        }
    }
}

/// Whom the API serves. Without `Debug`, as it holds secrets.
pub(crate) struct Access {
    trust: Vec<IpNet>,
    tokens: Vec<Token>,
    /// Taken only by strangers that present a token.
    lockout: Mutex<Lockout>,
}

impl Access {
    /// Reads the tokens file, if one is configured.
    pub(crate) fn load(config: &AdminConfig) -> Result<Self, AccessError> {
        let tokens = config.tokens_file.as_deref().map_or_else(|| Ok(Vec::new()), read_tokens)?;
        let lockout = Mutex::new(Lockout::new(config.lockout.clone()));
        Ok(Self { trust: config.trust.clone(), tokens, lockout })
    }

    /// Who a caller from `addr` is that presents this `Authorization`.
    pub(super) fn operator(
        &self,
        addr: IpAddr,
        authorization: Option<&HeaderValue>,
    ) -> Result<Operator, Refusal> {
        // A socket that accepts both families shows an IPv4 peer as ::ffff:a.b.c.d.
        let addr = addr.to_canonical();
        if self.trust.iter().any(|net| net.contains(&addr)) {
            return Ok(Operator { role: Role::Admin, proof: Proof::Address });
        }
        if self.tokens.is_empty() {
            return Err(Refusal::new(Code::Forbidden, self.stranger(addr)));
        }
        let unauthorized = |message| Refusal::new(Code::Unauthorized, message);
        let authorization = authorization
            .ok_or_else(|| unauthorized("a token is needed: send Authorization: Bearer TOKEN"))?;
        let now = Instant::now();
        // A panic elsewhere leaves the counts as they were.
        let mut lockout = self.lockout.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = lockout.remaining(addr, now) {
            return Err(Refusal::locked_out(addr, wait));
        }
        let token = bearer(authorization.as_bytes()).and_then(|secret| self.token(secret));
        let Some(token) = token else {
            if lockout.fail(addr, now) {
                warn!(target: "ringmaster::audit", caller = %addr, "Locked out: too many bad tokens");
            }
            return Err(unauthorized("the token is not valid"));
        };
        Ok(Operator { role: token.role, proof: Proof::Token(token.fingerprint) })
    }

    /// What one that is not trusted is told where there are no tokens.
    fn stranger(&self, addr: IpAddr) -> String {
        // A caller that uses another address of its own machine comes from that address.
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        let trusted = loopback.iter().find(|it| self.trust.iter().any(|net| net.contains(*it)));
        let advice = trusted.map(|it| format!(", or call {it} from the balancer's own machine"));
        format!("{addr} is not trusted: add it to admin.trust{}", advice.unwrap_or_default())
    }

    fn token(&self, secret: &[u8]) -> Option<&Token> {
        // No early exit: the time must not tell how many tokens were compared, or how much of one fitted.
        self.tokens.iter().fold(None, |found, token| {
            let same: bool = token.secret.as_bytes().ct_eq(secret).into();
            if same { Some(token) } else { found }
        })
    }
}

fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, secret) = authorization.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| secret.trim_ascii())
}
