//! TLS towards registries: the system's authorities, further ones, client certificates.

use std::sync::{Arc, OnceLock};

use model::Secret;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What makes one host's TLS different. Equal settings share connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct TlsSettings {
    /// Further authorities, PEM.
    pub(crate) ca: Vec<Vec<u8>>,
    /// Certificates and keys of this client, PEM.
    pub(crate) client: Vec<(Vec<u8>, Secret<Vec<u8>>)>,
    /// Whether any certificate is good.
    pub(crate) skip_verify: bool,
}

/// The configuration for `settings`.
///
/// # Errors
/// What is wrong with the certificates, in words without their content.
pub(crate) fn client_config(settings: &TlsSettings) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let keys = client_keys(settings, &provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = if settings.skip_verify {
        let verifier = Arc::new(AnyCertificate { provider });
        builder.dangerous().with_custom_certificate_verifier(verifier)
    } else {
        builder.with_root_certificates(roots(&settings.ca)?)
    };
    if keys.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    Ok(builder.with_client_cert_resolver(Arc::new(ClientKeys { keys })))
}

/// A configuration for clients of servers that are no registries, with the same rules: the system's
/// authorities and those in `ca` (PEM) are trusted, or with `skip_verify` any certificate.
///
/// # Errors
/// What is wrong with the certificates, in words without their content.
pub fn client_tls(ca: Vec<Vec<u8>>, skip_verify: bool) -> Result<ClientConfig, String> {
    client_config(&TlsSettings { ca, skip_verify, ..TlsSettings::default() })
}

/// The system's authorities, read once, and `further` ones beside them.
fn roots(further: &[Vec<u8>]) -> Result<RootCertStore, String> {
    static SYSTEM: OnceLock<RootCertStore> = OnceLock::new();
    let mut store = SYSTEM
        .get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for e in &found.errors {
                tracing::warn!("an authority of the system cannot be read: {e}");
            }
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(found.certs);
            store
        })
        .clone();
    for pem in further {
        let before = store.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| format!("a ca file is not PEM: {e:?}"))?;
            store.add(certificate).map_err(|e| format!("a ca certificate is not valid: {e}"))?;
        }
        if store.len() == before {
            return Err("a ca file has no certificate in it".into());
        }
    }
    Ok(store)
}

fn client_keys(
    settings: &TlsSettings,
    provider: &CryptoProvider,
) -> Result<Vec<Arc<CertifiedKey>>, String> {
    let mut keys = Vec::new();
    for (certificate, key) in &settings.client {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|_| "a client certificate is not PEM")?;
        if chain.is_empty() {
            return Err("a client file has no certificate in it".into());
        }
        let key = PrivateKeyDer::from_pem_slice(key.expose())
            .map_err(|_| "a client file has no private key in it")?;
        let pair = CertifiedKey::from_der(chain, key, provider)
            .map_err(|e| format!("a client certificate and its key do not work: {e}"))?;
        keys.push(Arc::new(pair));
    }
    Ok(keys)
}

/// Offers the first key that can sign in a way that the server knows.
#[derive(Debug)]
struct ClientKeys {
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesClientCert for ClientKeys {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.keys.iter().find(|k| k.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.keys.is_empty()
    }
}

/// Accepts every certificate (`skip_verify`); that the server holds its key is still checked.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_certificate_files_are_named_without_their_content() {
        let empty = TlsSettings { ca: vec![b"hello".to_vec()], ..TlsSettings::default() };
        assert!(client_config(&empty).unwrap_err().contains("no certificate"));
        let pair = (b"x".to_vec(), Secret::new(b"topsecret".to_vec()));
        let client = TlsSettings { client: vec![pair], ..TlsSettings::default() };
        let e = client_config(&client).unwrap_err();
        assert!(e.contains("client") && !e.contains("topsecret"), "{e}");
        assert!(!format!("{client:?}").contains("topsecret"));
        let skip = TlsSettings { skip_verify: true, ..TlsSettings::default() };
        assert!(client_config(&skip).is_ok());
    }
}
