//! TLS with certificates from files, which are read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read as PEM.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A file without a certificate in it.
    #[error("{} has no certificate", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate and a key that do not serve together.
    #[error("the certificate and the key cannot be used")]
    Unusable(#[from] rustls::Error),
}

#[derive(Debug)]
struct Loaded {
    stamp: Stamp,
    acceptor_config: Arc<ServerConfig>,
}

/// When the two files were changed, as far as they say.
type Stamp = [Option<SystemTime>; 2];

/// Certificates for the server. Clones share them.
#[derive(Debug, Clone)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Arc<Mutex<Loaded>>,
}

impl Tls {
    /// The certificate chain and the private key in these PEM files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamp = stamp(certificate, key);
        let loaded = Loaded { stamp, acceptor_config: load(certificate, key)? };
        Ok(Self {
            certificate: certificate.into(),
            key: key.into(),
            loaded: Arc::new(Mutex::new(loaded)),
        })
    }

    pub(super) async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.current()).accept(socket).await
    }

    /// What the files hold now; what they held before, if that cannot be used.
    fn current(&self) -> Arc<ServerConfig> {
        let stamp = stamp(&self.certificate, &self.key);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.stamp != stamp {
            match load(&self.certificate, &self.key) {
                Ok(config) => *loaded = Loaded { stamp, acceptor_config: config },
                Err(error) => {
                    // One of two files may have been replaced and the other not yet.
                    tracing::warn!(%error, "the streaming server goes on with the certificate that it has");
                    loaded.stamp = stamp;
                }
            }
        }
        Arc::clone(&loaded.acceptor_config)
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Read { path, source }
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).map_err(failed(certificate))?.collect();
    let chain = chain.map_err(failed(certificate))?;
    if chain.is_empty() {
        return Err(TlsError::Empty { path: certificate.to_owned() });
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn files_that_change_are_read_again_and_bad_ones_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = write(dir.path());
        let tls = Tls::from_files(&certificate, &key).unwrap();
        let first = tls.current();
        assert!(Arc::ptr_eq(&first, &tls.current()));
        let later = |path: &Path, seconds| {
            let time = SystemTime::now() + std::time::Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        std::fs::write(&certificate, "nonsense").unwrap();
        later(&certificate, 5);
        assert!(Arc::ptr_eq(&first, &tls.current()));
        write(dir.path());
        later(&certificate, 10);
        assert!(!Arc::ptr_eq(&first, &tls.current()));
        std::fs::write(&certificate, "").unwrap();
        assert!(matches!(Tls::from_files(&certificate, &key), Err(TlsError::Empty { .. })));
    }
}
