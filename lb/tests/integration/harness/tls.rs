//! Certificates, and clients that speak TLS.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
};

use ::http::Request;
use anyhow::Context;
use bytes::Bytes;
use h2::client::SendRequest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;
use tokio::{net::TcpStream, task::AbortHandle};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::Balancer;

pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";
pub(crate) const HTTP_2: &[u8] = b"h2";

/// Signs the certificates that its clients trust.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, folder: tempfile::tempdir().unwrap() }
    }

    /// The files of the certificate called so.
    pub(crate) fn files(&self, called: &str) -> [PathBuf; 2] {
        ["crt", "key"].map(|kind| self.folder.path().join(format!("{called}.{kind}")))
    }

    /// Makes a certificate for `name`, anew if there is one, and returns its files as the configuration names them.
    pub(crate) fn certify(&self, called: &str, name: &str) -> String {
        let [certificate, key] = self.files(called);
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let signed = params.signed_by(&pair, &self.issuer).unwrap();
        fs::write(&certificate, signed.pem()).unwrap();
        fs::write(&key, pair.serialize_pem()).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        format!("{{ certificate: {}, key: {} }}", certificate.display(), key.display())
    }

    /// A configuration with a certificate for `localhost`, and `more` about TLS.
    pub(crate) fn config(&self, more: &str) -> String {
        let pair = self.certify("own", "localhost");
        format!("tls: {{ listen: 127.0.0.1:0, certificates: [{pair}]{more} }}\n")
    }

    /// Shakes hands as a client that asks for `name` and speaks `protocols`.
    pub(crate) async fn connect(
        &self,
        addr: SocketAddr,
        name: &str,
        protocols: &[&[u8]],
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        let stream = TcpStream::connect(addr).await?;
        let name = ServerName::try_from(name.to_owned())?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
    }

    /// A connection that speaks HTTP/2 to `balancer`.
    pub(crate) async fn http2(&self, balancer: &Balancer) -> Http2 {
        self.try_http2(balancer.secure.expect("it serves TLS")).await.unwrap()
    }

    pub(crate) async fn try_http2(&self, addr: SocketAddr) -> anyhow::Result<Http2> {
        let stream = self.connect(addr, "localhost", &[HTTP_2]).await?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Http2 { sender, connection })
    }
}

/// A client's connection.
#[derive(Clone)]
pub(crate) struct Http2 {
    pub(crate) sender: SendRequest<Bytes>,
    connection: AbortHandle,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Http2 {
    /// Closes the connection, whatever is in hand on it.
    pub(crate) fn close(&self) {
        self.connection.abort();
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        let request = Request::get(format!("https://localhost{path}")).body(())?;
        self.send(request, None).await
    }

    /// Sends a request, and its body if it has one.
    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        body: Option<&[u8]>,
    ) -> anyhow::Result<Answer> {
        self.sender.clone().ready().await.context("no more requests")?;
        let (answer, mut sent) = self.sender.send_request(request, body.is_none())?;
        if let Some(body) = body {
            sent.send_data(Bytes::copy_from_slice(body), true)?;
        }
        let (head, mut received) = answer.await?.into_parts();
        let mut body = Vec::new();
        while let Some(part) = received.data().await {
            let part = part?;
            body.extend_from_slice(&part);
            received.flow_control().release_capacity(part.len())?;
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status.as_u16(), body })
    }
}
