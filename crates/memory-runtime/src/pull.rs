//! Pulls: from registries of this machine over plain HTTP; images of other registries are made up.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cri_api::v1::AuthConfig;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, WWW_AUTHENTICATE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tonic::Status;

use crate::fault::Fault;
use crate::reference::Reference;
use crate::world::{StoredImage, World};

/// The longest blob that is taken, in bytes.
const LONGEST: usize = 256 << 20;
/// How often a registry that is unavailable is asked.
const ATTEMPTS: u32 = 3;
const KINDS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// `sha256:` and the hash of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Fetches an image, and gives its id.
pub(crate) async fn pull(
    world: &World,
    reference: &Reference,
    auth: Option<&AuthConfig>,
) -> Result<String, Status> {
    let auth = auth.filter(|_| !world.has(Fault::AuthIgnored));
    let (id, manifest, mut image) = if reference.is_local() {
        fetch(world, reference, auth).await?
    } else {
        made_up(reference)
    };
    let id = if world.has(Fault::ManifestId) { manifest.clone() } else { id };
    let mut tables = world.lock();
    let name = reference.full();
    for other in tables.images.values_mut() {
        other.tags.retain(|tag| *tag != name);
    }
    if let Some(known) = tables.images.get(&id) {
        image.tags.clone_from(&known.tags);
        image.digests.clone_from(&known.digests);
    }
    if reference.digest.is_empty() {
        if world.has(Fault::TagsLost) {
            image.tags.clear();
        }
        image.tags.push(name);
    }
    let with_digest = format!("{}@{manifest}", reference.repository());
    if !image.digests.contains(&with_digest) {
        image.digests.push(with_digest);
    }
    image.tags.sort();
    tables.images.insert(id.clone(), image);
    Ok(id)
}

/// An image of a registry that is never asked: the same name is the same image.
fn made_up(reference: &Reference) -> (String, String, StoredImage) {
    let name = reference.full();
    let image = StoredImage {
        size: 1 << 20,
        command: vec!["sleep".into(), "1000000".into()],
        ..Default::default()
    };
    (digest(name.as_bytes()), digest(format!("manifest of {name}").as_bytes()), image)
}

async fn fetch(
    world: &World,
    reference: &Reference,
    auth: Option<&AuthConfig>,
) -> Result<(String, String, StoredImage), Status> {
    let client = Client { reference, auth, token: std::sync::Mutex::default() };
    let mut bytes = client.get("manifests", reference.wanted()).await?;
    let manifest = digest(&bytes);
    let mut value = json(&bytes)?;
    if let Some(all) = value.get("manifests").and_then(Value::as_array) {
        let ours = all.iter().find(|one| one["platform"]["architecture"] == architecture());
        let wanted = ours.and_then(|one| one["digest"].as_str()).ok_or_else(|| {
            Status::not_found(format!("{}: no image for this machine", reference.full()))
        })?;
        bytes = client.get("manifests", wanted).await?;
        value = json(&bytes)?;
    }
    let config_digest = value["config"]["digest"].as_str().unwrap_or_default().to_owned();
    // What is here already is not fetched again.
    let known = world.lock().images.get(&config_digest).cloned();
    if let Some(known) = known {
        return Ok((config_digest, manifest, known));
    }
    let config = json(&client.blob(world, &value["config"], true).await?.unwrap_or_default())?;
    let mut size = 0;
    for layer in value["layers"].as_array().into_iter().flatten() {
        size += layer["size"].as_u64().unwrap_or_default();
        client.blob(world, layer, false).await?;
    }
    let of = &config["config"];
    let words = |name: &str| -> Vec<String> {
        let all = of[name].as_array().into_iter().flatten();
        all.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let image = StoredImage {
        size: size.max(1),
        user: of["User"].as_str().unwrap_or_default().to_owned(),
        environment: words("Env"),
        entrypoint: words("Entrypoint"),
        command: words("Cmd"),
        stop_signal: of["StopSignal"].as_str().unwrap_or_default().to_owned(),
        ..Default::default()
    };
    Ok((config_digest, manifest, image))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn json(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(|error| Status::data_loss(format!("a manifest: {error}")))
}

struct Client<'a> {
    reference: &'a Reference,
    auth: Option<&'a AuthConfig>,
    token: std::sync::Mutex<Option<String>>,
}

impl Client<'_> {
    /// A blob, checked; nothing where it is here already and not needed again.
    async fn blob(
        &self,
        world: &World,
        descriptor: &Value,
        is_needed: bool,
    ) -> Result<Option<Bytes>, Status> {
        let wanted = descriptor["digest"].as_str().unwrap_or_default();
        // A configuration is small, and kept nowhere.
        if !is_needed && world.lock().blobs.contains(wanted) {
            return Ok(None);
        }
        let bytes = self.get("blobs", wanted).await?;
        if digest(&bytes) != wanted && !world.has(Fault::CorruptLayers) {
            let name = self.reference.full();
            return Err(Status::data_loss(format!("{name}: blob {wanted} has other bytes")));
        }
        world.lock().blobs.insert(wanted.to_owned());
        Ok(Some(bytes))
    }

    async fn get(&self, kind: &str, wanted: &str) -> Result<Bytes, Status> {
        let path = format!("/v2/{}/{kind}/{wanted}", self.reference.path);
        let name = self.reference.full();
        let mut authorization = self.first();
        for attempt in 1.. {
            let answer = send(&self.reference.host, &path, authorization.as_deref()).await;
            let (status, headers, body) = answer.map_err(|error| {
                Status::unavailable(format!("RegistryUnavailable: {name}: {error}"))
            })?;
            match status {
                StatusCode::OK => return Ok(body),
                StatusCode::NOT_FOUND => {
                    return Err(Status::not_found(format!("{name}: {wanted} is not there")));
                }
                StatusCode::SERVICE_UNAVAILABLE if attempt < ATTEMPTS => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                StatusCode::UNAUTHORIZED if attempt < ATTEMPTS => {
                    let asked = headers.get(WWW_AUTHENTICATE).and_then(|v| v.to_str().ok());
                    authorization = self.answer(asked.unwrap_or_default()).await;
                    if authorization.is_none() {
                        return Err(Status::unauthenticated(format!("{name}: who are you?")));
                    }
                }
                StatusCode::UNAUTHORIZED => {
                    return Err(Status::unauthenticated(format!(
                        "{name}: not with these credentials"
                    )));
                }
                other => {
                    return Err(Status::unavailable(format!(
                        "RegistryUnavailable: {name}: {other}"
                    )));
                }
            }
        }
        Err(Status::unavailable(name))
    }

    /// What is sent before anybody asks.
    fn first(&self) -> Option<String> {
        let known = self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let given = self.auth.map(|auth| &auth.registry_token).filter(|token| !token.is_empty());
        known.or_else(|| given.map(|token| format!("Bearer {token}")))
    }

    fn basic(&self) -> Option<String> {
        let auth = self.auth?;
        let word = if auth.username.is_empty() {
            auth.auth.clone()
        } else {
            STANDARD.encode(format!("{}:{}", auth.username, auth.password))
        };
        (!word.is_empty()).then(|| format!("Basic {word}"))
    }

    /// What a challenge is answered with.
    async fn answer(&self, challenge: &str) -> Option<String> {
        let basic = self.basic()?;
        let Some(realm) = challenge.strip_prefix("Bearer realm=\"") else { return Some(basic) };
        let realm = realm.split('"').next()?.strip_prefix("http://")?;
        let (host, path) = realm.split_once('/')?;
        let (_, _, body) = send(host, &format!("/{path}"), Some(&basic)).await.ok()?;
        let value: Value = serde_json::from_slice(&body).ok()?;
        let token = format!("Bearer {}", value["token"].as_str()?);
        *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(token.clone());
        Some(token)
    }
}

async fn send(
    host: &str,
    path: &str,
    authorization: Option<&str>,
) -> io::Result<(StatusCode, HeaderMap, Bytes)> {
    let socket = TcpStream::connect(host)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{host}: {error}")))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .map_err(io::Error::other)?;
    // What breaks it reaches whoever waits for the answer.
    let driving = tokio::spawn(connection);
    let mut request = Request::builder().uri(path).header(HOST, host).header(ACCEPT, KINDS);
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = Limited::new(answer.into_body(), LONGEST).collect().await;
    driving.abort();
    Ok((status, headers, body.map_err(io::Error::other)?.to_bytes()))
}
