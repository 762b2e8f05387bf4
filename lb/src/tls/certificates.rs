//! The certificates of the balancer, by the names in them.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use webpki::EndEntityCert;

use crate::{config::CertificateConfig, encoding};

/// The bits of a file's mode that let those do anything with it who are neither its owner nor of its group.
const MODE_OF_OTHERS: u32 = 0o007;

/// Why a certificate cannot be presented.
#[derive(Debug, thiserror::Error)]
#[error("tls.certificates[{index}].{key}: {}: {fault}", path.display())]
pub(crate) struct CertificateError {
    index: usize,
    key: &'static str,
    path: PathBuf,
    fault: CertificateFault,
}

impl CertificateError {
    pub(super) fn is_denied(&self) -> bool {
        let CertificateFault::Unreadable(error) = &self.fault else { return false };
        error.kind() == io::ErrorKind::PermissionDenied
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
enum CertificateFault {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("has mode {0:03o}, which opens it to others; use chmod 640")]
    Exposed(u32),
    #[error("not PEM: {0}")]
    Pem(#[from] pem::Error),
    #[error("holds no certificate; it needs the chain, the server's own first")]
    Empty,
    #[error("is no certificate of a server: {0}")]
    NotOfServer(#[from] webpki::Error),
    #[error("cannot be used with its certificate: {0}")]
    Unusable(#[from] rustls::Error),
}

/// All of them; where there is none, no handshake succeeds.
#[derive(Debug)]
pub(super) struct Certificates(Vec<Arc<CertifiedKey>>);

impl Certificates {
    pub(super) fn load(
        pairs: &[CertificateConfig],
        provider: &CryptoProvider,
    ) -> Result<Self, CertificateError> {
        let load = |(index, pair): (usize, &CertificateConfig)| {
            let error = |key, path: &Path, fault| {
                let path = path.to_owned();
                CertificateError { index, key, path, fault }
            };
            let chain = read_chain(&pair.certificate)
                .map_err(|fault| error("certificate", &pair.certificate, fault))?;
            let certified = read_key(&pair.key)
                .and_then(|key| Ok(CertifiedKey::from_der(chain, key, provider)?))
                .map_err(|fault| error("key", &pair.key, fault))?;
            Ok(Arc::new(certified))
        };
        pairs.iter().enumerate().map(load).collect::<Result<_, _>>().map(Self)
    }

    /// The first that is for `name`.
    fn named(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = ServerName::try_from(name).ok()?;
        // To read them again for each handshake costs a small part of it.
        let is_named = |it: &&Arc<CertifiedKey>| {
            let own = it.cert.first().and_then(|own| EndEntityCert::try_from(own).ok());
            own.is_some_and(|own| own.verify_is_valid_for_subject_name(&name).is_ok())
        };
        self.0.iter().find(is_named)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named(name));
        named.or(self.0.first()).cloned()
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFault> {
    let text = encoding::plain_pem(&std::fs::read(path)?);
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>()?;
    EndEntityCert::try_from(chain.first().ok_or(CertificateFault::Empty)?)?;
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateFault> {
    let mut file = File::open(path)?;
    // Of the open file, not of the path, which may be another file by the time it is read.
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & MODE_OF_OTHERS != 0 {
        return Err(CertificateFault::Exposed(mode));
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(PrivateKeyDer::from_pem_slice(&encoding::plain_pem(&text))?)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};
    use tempfile::TempDir;
    use tokio_rustls::rustls::crypto::ring;

    use super::*;

    /// A certificate for `names` in a folder, and its key.
    fn pair(folder: &TempDir, names: &[&str]) -> CertificateConfig {
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let file =
            |kind: &str| folder.path().join(format!("{}.{kind}", names[0].replace('*', "any")));
        let Made { cert, signing_key } = generate_simple_self_signed(names.clone()).unwrap();
        let pair = CertificateConfig { certificate: file("crt"), key: file("key") };
        fs::write(&pair.certificate, cert.pem()).unwrap();
        fs::write(&pair.key, signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&pair.key, Permissions::from_mode(0o640)).unwrap();
        pair
    }

    fn load(pairs: &[CertificateConfig]) -> Result<Certificates, String> {
        Certificates::load(pairs, &ring::default_provider()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_certificate_is_found_by_each_of_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let pairs = [pair(&folder, &["a.example", "b.example"]), pair(&folder, &["*.c.example"])];
        let certificates = load(&pairs).unwrap();
        let index = |name: &str| {
            let named = certificates.named(name)?;
            certificates.0.iter().position(|it| Arc::ptr_eq(it, named))
        };
        for (name, expected) in [
            ("a.example", Some(0)),
            ("B.Example", Some(0)),
            ("b.example.", Some(0)),
            ("d.c.example.", Some(1)),
            ("d.c.example", Some(1)),
            ("c.example", None),
            ("a.b.c.example", None),
            ("example", None),
            ("192.0.2.1", None),
        ] {
            assert_eq!(index(name), expected, "{name}");
        }
    }

    #[test]
    fn files_may_come_from_other_systems() {
        let folder = tempfile::tempdir().unwrap();
        let pair = pair(&folder, &["a.example"]);
        for path in [&pair.certificate, &pair.key] {
            let plain = fs::read_to_string(path).unwrap();
            let marked = format!("\u{feff}{plain}");
            let crlf = marked.replace('\n', "\r\n");
            let spaced = plain.replace('\n', " \t\r\n");
            let commented = format!("subject=/CN=a.example\nissuer=…\n\n{plain}\nThe end.\n");
            // Another tool's output in front, with a mark in the middle of the file.
            let joined = format!(
                "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n{marked}"
            );
            for text in [marked, crlf, spaced, commented, joined, plain] {
                fs::write(path, &text).unwrap();
                load(std::slice::from_ref(&pair))
                    .unwrap_or_else(|error| panic!("{error}: {text:?}"));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_key_and_file() {
        let folder = tempfile::tempdir().unwrap();
        let (good, other) = (pair(&folder, &["a"]), pair(&folder, &["b"]));
        let error = |pair: &CertificateConfig| load(&[good.clone(), pair.clone()]).unwrap_err();
        let with_key = |key: &Path| CertificateConfig { key: key.to_owned(), ..other.clone() };

        let mismatch = error(&with_key(&good.key));
        assert!(mismatch.starts_with("tls.certificates[1].key: "), "{mismatch}");
        assert!(mismatch.contains("a.key: cannot be used with its certificate"), "{mismatch}");
        let missing = error(&with_key(Path::new("/nowhere")));
        assert!(missing.contains("/nowhere: cannot be read"), "{missing}");
        fs::set_permissions(&other.key, Permissions::from_mode(0o644)).unwrap();
        let exposed = error(&other);
        assert!(exposed.contains("has mode 644, which opens it to others"), "{exposed}");
        fs::write(&other.certificate, "").unwrap();
        let empty = error(&other);
        assert!(empty.starts_with("tls.certificates[1].certificate: "), "{empty}");
        assert!(empty.contains("holds no certificate"), "{empty}");
    }
}
