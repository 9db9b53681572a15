//! TLS: own authorities, client certificates, and certificates that nobody vouches for.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use model::{Class, Classified as _};
use oci_image::Reference;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use registry::{Cause, Registry, RegistryConfig};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoClientAuth, ServerConfig, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;

use crate::server::{Reply, Server, client, limits, manifest};

struct Authority {
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

struct Pair {
    cert: String,
    key: String,
    der: (CertificateDer<'static>, Vec<u8>),
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let (pem, der) = (cert.pem(), cert.der().clone());
        Self { pem, der, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let der = (cert.der().clone(), key.serialize_der());
        Pair { cert: cert.pem(), key: key.serialize_pem(), der }
    }

    /// A server called localhost; with `clients`, only for those whom that authority vouches for.
    fn acceptor(&self, clients: Option<&Self>) -> TlsAcceptor {
        let (cert, key) = self.issue("localhost").der;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match clients {
            None => Arc::new(NoClientAuth) as _,
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der.clone()).unwrap();
                let roots = Arc::new(roots);
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .unwrap()
            }
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![cert], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A client for which `registry.example` is at `server`, with `settings` in its hosts.toml.
fn configured(root: &Path, server: &Server, settings: &str) -> Registry {
    let text = format!("server = 'https://localhost:{}'\n{settings}\n", server.port);
    fs::write(root.join("registry.example/hosts.toml"), text).unwrap();
    let hosts_dirs = vec![root.to_owned()];
    Registry::new(RegistryConfig { hosts_dirs, limits: limits(), ..RegistryConfig::default() })
}

fn directory() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("registry.example")).unwrap();
    root
}

fn reference() -> Reference {
    Reference::parse("registry.example/a:b").unwrap()
}

#[tokio::test]
async fn an_authority_from_a_file_is_trusted_and_an_unknown_one_is_not() {
    let (authority, root) = (Authority::new(), directory());
    let server =
        Server::start_tls(authority.acceptor(None), |_| Reply::manifest(&manifest())).await;
    fs::write(root.path().join("registry.example/ca.pem"), &authority.pem).unwrap();

    let e = configured(root.path(), &server, "").resolve(&reference(), None).await.unwrap_err();
    assert!(matches!(e.cause, Cause::Certificate(_)), "{e:?}");
    assert_eq!((e.class(), e.tries), (Class::Unavailable, 1));
    assert!(e.to_string().starts_with("RegistryUnavailable: "), "{e}");

    for settings in ["ca = 'ca.pem'", "ca = ['ca.pem']", "skip_verify = true"] {
        let client = configured(root.path(), &server, settings);
        client.resolve(&reference(), None).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_the_server_wants_one() {
    let (authority, clients, root) = (Authority::new(), Authority::new(), directory());
    let acceptor = authority.acceptor(Some(&clients));
    let server = Server::start_tls(acceptor, |_| Reply::manifest(&manifest())).await;
    let me = clients.issue("node");
    let dir = root.path().join("registry.example");
    fs::write(dir.join("ca.pem"), &authority.pem).unwrap();
    fs::write(dir.join("me.cert"), &me.cert).unwrap();
    fs::write(dir.join("me.key"), &me.key).unwrap();
    fs::write(dir.join("both.pem"), format!("{}{}", me.cert, me.key)).unwrap();

    let e = configured(root.path(), &server, "ca = 'ca.pem'").resolve(&reference(), None).await;
    assert_eq!(e.unwrap_err().class(), Class::Unavailable);
    for form in ["[['me.cert', 'me.key']]", "'both.pem'", "['both.pem']"] {
        let settings = format!("ca = 'ca.pem'\nclient = {form}");
        let client = configured(root.path(), &server, &settings);
        client.resolve(&reference(), None).await.unwrap();
    }
}

#[tokio::test]
async fn a_loopback_registry_with_tls_needs_no_authority() {
    let server =
        Server::start_tls(Authority::new().acceptor(None), |_| Reply::manifest(&manifest())).await;
    client().resolve(&server.reference("a:b"), None).await.unwrap();
}

#[tokio::test]
async fn an_https_registry_does_not_send_its_visitors_to_a_plain_token_server() {
    let (authority, root) = (Authority::new(), directory());
    let server = Server::start_tls(authority.acceptor(None), |_| {
        let challenge = "Bearer realm=\"http://tokens.example/token\"";
        Reply::new(401, &[]).header("WWW-Authenticate", challenge)
    })
    .await;
    let client = configured(root.path(), &server, "skip_verify = true");
    let e = client.resolve(&reference(), None).await.unwrap_err();
    assert!(e.to_string().contains("plain http"), "{e}");
}
