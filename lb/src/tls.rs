//! What clients over TLS are answered with: versions, protocols, and a certificate for the name that they ask for.
//!
//! Invariant: an acceptor exists only if each of its certificates could be read, fits its key and can be presented. So a
//! reload that finds a bad file changes nothing.

mod certificates;

use std::sync::Arc;

use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, ServerConfig, crypto::ring},
};

pub(crate) use self::certificates::CertificateError;
use self::certificates::Certificates;
use crate::config::TlsConfig;

/// As ALPN has it (RFC 7301).
pub(crate) const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why clients cannot be served over TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("tls: no session can be set up: {0}")]
    Session(#[from] rustls::Error),
}

impl TlsError {
    /// Whether this user may not read a file that another one may.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Certificate(error) if error.is_denied())
    }
}

/// Reads the certificates, and makes what shakes hands with clients; `None` where none is to be served.
pub(crate) fn acceptor(config: &TlsConfig) -> Result<Option<TlsAcceptor>, TlsError> {
    if config.listen.is_none() {
        return Ok(None);
    }
    let provider = Arc::new(ring::default_provider());
    let certificates = Certificates::load(&config.certificates, &provider)?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    // Sessions are resumed by what the client keeps: nothing is stored here, and any number may be.
    tls.ticketer = ring::Ticketer::new()?;
    tls.alpn_protocols = vec![HTTP_1_1.to_vec()];
    if config.http2 {
        tls.alpn_protocols.insert(0, HTTP_2.to_vec());
    }
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}
