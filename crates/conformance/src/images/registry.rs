//! A registry on loopback: as much of the OCI distribution specification as pulling takes, and the
//! ways in which registries misbehave.
//!
//! Owns: the images that the suite offers. Always: it listens on one address of this machine and keeps
//! everything in memory. Callers: the suite fills it, the runtime under test pulls from it.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::image::{Image, Index};
use super::layer::Blob;

/// Who may use a repository that asks for a name.
pub(crate) const USER: &str = "check";
/// That user's password.
pub(crate) const PASSWORD: &str = "not-a-secret";
/// What the token service gives that user.
pub(crate) const TOKEN: &str = "token-of-the-suite";

/// How a repository behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mood {
    /// As the specification says.
    #[default]
    Honest,
    /// It asks for a user and a password.
    Password,
    /// It asks for a token, which a token service gives for a user and a password.
    Token,
    /// The bytes of its layers are not those that their digest names.
    Corrupt,
    /// Its layers are shorter than their descriptors say.
    Short,
    /// It has the manifest, and none of the layers.
    NoLayers,
    /// It answers 503 to the first few requests for blobs.
    Stumbling(u32),
    /// It answers 500 to everything.
    Broken,
}

#[derive(Debug, Default)]
struct Store {
    blobs: HashMap<String, Bytes>,
    /// By repository and reference (a tag or a digest): media type and bytes.
    manifests: HashMap<(String, String), (String, Bytes)>,
    moods: HashMap<String, Mood>,
    /// Requests for blobs, by repository.
    fetched: BTreeMap<String, u32>,
}

/// A registry that ends with this value.
#[derive(Debug)]
pub(crate) struct Registry {
    address: SocketAddr,
    store: Arc<Mutex<Store>>,
    serving: JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    // Every change is one insertion.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// An empty one at `address`; port 0 leaves the choice to the kernel.
    pub(crate) async fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let store = Arc::new(Mutex::new(Store::default()));
        let serving = tokio::spawn(serve(listener, Arc::clone(&store), address));
        Ok(Self { address, store, serving })
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// Puts an image under a tag.
    pub(crate) fn put(&self, image: &Image, repository: &str, tag: &str) {
        self.put_blobs(image);
        self.put_manifest(&image.manifest(), repository, tag);
    }

    /// Puts an index and its images under a tag.
    pub(crate) fn put_index(&self, index: &Index, repository: &str, tag: &str) {
        for image in &index.0 {
            self.put_blobs(image);
            let manifest = image.manifest();
            self.put_manifest(&manifest, repository, &manifest.digest);
        }
        self.put_manifest(&index.manifest(), repository, tag);
    }

    /// Puts a manifest under a tag and its digest.
    pub(crate) fn put_manifest(&self, manifest: &Blob, repository: &str, tag: &str) {
        let mut store = lock(&self.store);
        for reference in [tag, &manifest.digest] {
            let key = (repository.to_owned(), reference.to_owned());
            let value = (manifest.media_type.clone(), manifest.bytes.clone());
            store.manifests.insert(key, value);
        }
    }

    fn put_blobs(&self, image: &Image) {
        let mut store = lock(&self.store);
        let config = image.config();
        for blob in image.layers.iter().chain([&config]) {
            store.blobs.insert(blob.digest.clone(), blob.bytes.clone());
        }
    }

    /// From now on a repository behaves so.
    pub(crate) fn be(&self, repository: &str, mood: Mood) {
        lock(&self.store).moods.insert(repository.to_owned(), mood);
    }

    /// How many blobs were asked for in a repository.
    pub(crate) fn fetched(&self, repository: &str) -> u32 {
        lock(&self.store).fetched.get(repository).copied().unwrap_or_default()
    }
}

async fn serve(listener: TcpListener, store: Arc<Mutex<Store>>, address: SocketAddr) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(&store, &request, address);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that goes away is no failure of the registry's.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

type Answer = Response<Full<Bytes>>;

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}

fn answer(store: &Mutex<Store>, request: &Request<Incoming>, address: SocketAddr) -> Answer {
    let path = request.uri().path();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "this registry can only be read");
    }
    if path == "/v2/" || path == "/v2" {
        return plain(StatusCode::OK, "{}");
    }
    if path == "/token" {
        return token(request);
    }
    let Some(rest) = path.strip_prefix("/v2/") else {
        return plain(StatusCode::NOT_FOUND, "");
    };
    let parts = ["/manifests/", "/blobs/"].map(|kind| rest.rsplit_once(kind));
    let mut store = lock(store);
    let repository = parts.iter().flatten().next().map_or("", |(repository, _)| *repository);
    let mood = store.moods.get(repository).copied().unwrap_or_default();
    if let Some(refusal) = refusal(request, mood, address) {
        return refusal;
    }
    match parts {
        [Some((repository, reference)), _] => manifest(&store, repository, reference),
        [_, Some((repository, digest))] => blob(&mut store, request, repository, digest, mood),
        [None, None] => plain(StatusCode::NOT_FOUND, ""),
    }
}

/// What a repository answers that does not want this request.
fn refusal(request: &Request<Incoming>, mood: Mood, address: SocketAddr) -> Option<Answer> {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (wanted, challenge) = match mood {
        Mood::Password => (basic(), "Basic realm=\"check\"".to_owned()),
        Mood::Token => {
            let realm = format!("http://{address}/token");
            (format!("Bearer {TOKEN}"), format!("Bearer realm=\"{realm}\",service=\"check\""))
        }
        Mood::Broken => {
            return Some(plain(StatusCode::INTERNAL_SERVER_ERROR, "this repository is broken"));
        }
        Mood::Honest | Mood::Corrupt | Mood::Short | Mood::NoLayers | Mood::Stumbling(_) => {
            return None;
        }
    };
    if given == Some(&wanted) {
        return None;
    }
    let mut answer = plain(
        StatusCode::UNAUTHORIZED,
        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
    );
    if let Ok(challenge) = HeaderValue::from_str(&challenge) {
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    Some(answer)
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")))
}

fn token(request: &Request<Incoming>) -> Answer {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given != Some(&basic()) {
        return plain(StatusCode::UNAUTHORIZED, "");
    }
    let text = format!(r#"{{"token":"{TOKEN}","access_token":"{TOKEN}","expires_in":300}}"#);
    plain(StatusCode::OK, text)
}

fn manifest(store: &Store, repository: &str, reference: &str) -> Answer {
    let key = (repository.to_owned(), reference.to_owned());
    let Some((media_type, bytes)) = store.manifests.get(&key) else {
        let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        return plain(StatusCode::NOT_FOUND, unknown);
    };
    let mut answer = plain(StatusCode::OK, bytes.clone());
    let digest = super::layer::digest(bytes);
    let headers = answer.headers_mut();
    if let (Ok(kind), Ok(digest)) = (HeaderValue::from_str(media_type), digest.parse()) {
        headers.insert(CONTENT_TYPE, kind);
        headers.insert("docker-content-digest", digest);
    }
    answer
}

fn blob(
    store: &mut Store,
    request: &Request<Incoming>,
    repository: &str,
    digest: &str,
    mood: Mood,
) -> Answer {
    let count = store.fetched.entry(repository.to_owned()).or_default();
    *count += 1;
    let count = *count;
    let Some(bytes) = store.blobs.get(digest).cloned() else {
        let unknown = r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}"#;
        return plain(StatusCode::NOT_FOUND, unknown);
    };
    // Configs are JSON; all else here is a layer.
    let is_layer = bytes.first() != Some(&b'{');
    let bytes = match mood {
        Mood::Corrupt if is_layer => {
            let mut wrong = bytes.to_vec();
            let middle = wrong.len() / 2;
            wrong[middle] ^= 0xff;
            wrong.into()
        }
        Mood::Short if is_layer => bytes.slice(..bytes.len() / 2),
        Mood::NoLayers if is_layer => return plain(StatusCode::NOT_FOUND, ""),
        Mood::Stumbling(first) if count <= first => {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "try again");
        }
        Mood::Honest
        | Mood::Password
        | Mood::Token
        | Mood::Corrupt
        | Mood::Short
        | Mood::NoLayers
        | Mood::Stumbling(_)
        | Mood::Broken => bytes,
    };
    part(request, bytes)
}

/// All bytes, or those from where the client goes on (RFC 9110 section 14: `bytes=FIRST-` or `bytes=FIRST-LAST`).
fn part(request: &Request<Incoming>, bytes: Bytes) -> Answer {
    let range = request.headers().get(RANGE).and_then(|value| value.to_str().ok());
    let range = range.and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let total = bytes.len();
    let wanted = range.and_then(|(first, last)| {
        let first: usize = first.parse().ok()?;
        let last: usize = if last.is_empty() { total } else { last.parse::<usize>().ok()? + 1 };
        (first < total && first < last).then(|| first..last.min(total))
    });
    let mut answer = match wanted {
        None => plain(StatusCode::OK, bytes),
        Some(range) => {
            let said = format!("bytes {}-{}/{total}", range.start, range.end - 1);
            let mut answer = plain(StatusCode::PARTIAL_CONTENT, bytes.slice(range));
            if let Ok(said) = said.parse() {
                answer.headers_mut().insert("content-range", said);
            }
            answer
        }
    };
    let octets = HeaderValue::from_static("application/octet-stream");
    answer.headers_mut().insert(CONTENT_TYPE, octets);
    answer
}
