//! `isopod load`.

use std::path::{Path, PathBuf};

use admin_api::MAX_CHUNK_BYTES;
use admin_api::v1::LoadChunk;
use image_store::tar::Writer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::SyncIoBridge;

use super::archive;
use super::failure::{Doing, Failure, Outcome};
use super::find::hex;
use super::node::Node;
use super::print::{self, Form};
use super::text::short;

/// Chunks that wait to be sent; when there are more, reading the archive waits.
const CHUNKS_AHEAD: usize = 4;
/// Bytes of a directory's tar that wait to be read.
const AHEAD: usize = 256 << 10;
/// The file that says what a directory is (OCI image-spec, image-layout.md).
const LAYOUT: &str = "oci-layout";

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory with an OCI image layout, a tar of one, or what `docker save` writes; plain, gzip or zstd; - is
    /// stdin
    #[arg(default_value = "-", value_name = "ARCHIVE")]
    archive: PathBuf,
    /// A name for an image that the archive gives none
    #[arg(long, value_name = "IMAGE", default_value = "")]
    name: String,
}

/// Streams the archive to the daemon, and tells what was in it.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    let doing = match args.archive.as_os_str().as_encoded_bytes() {
        b"-" => "load images from stdin".to_owned(),
        _ => format!("load images from {}", args.archive.display()),
    };
    let source = open(&args.archive).await.doing(&doing)?;
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let reading = tokio::spawn(read(source, sender, args.name.clone()));
    let answer = node.admin().load_image(ReceiverStream::new(receiver)).await;
    // An archive that could not be read explains why the daemon found it cut short.
    if let Ok(Err(error)) = reading.await {
        return Err(Failure::caused(doing, &error));
    }
    let images = answer.doing(doing)?.into_inner().images;
    match form {
        Form::Table => {
            for image in &images {
                let names = match image.names[..] {
                    [] => "without a name".to_owned(),
                    ref names => names.join(", "),
                };
                print::line(&format!("{}  {names}", short(hex(&image.id))))?;
            }
        }
        Form::Json | Form::Yaml => {
            let all = images.iter().map(|i| json!({ "id": i.id, "names": i.names })).collect();
            print::value(&all, form)?;
        }
    }
    Ok(0)
}

type Source = Box<dyn AsyncRead + Send + Unpin>;

async fn open(path: &Path) -> std::io::Result<Source> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(tokio::io::stdin()));
    }
    let file = tokio::fs::File::open(path).await?;
    if !file.metadata().await?.is_dir() {
        return Ok(Box::new(file));
    }
    if !path.join(LAYOUT).exists() {
        return Err(std::io::Error::other(format!("the directory has no file {LAYOUT}")));
    }
    Ok(Box::new(packed(path.to_owned())))
}

/// A layout as a tar, made while it is read.
fn packed(directory: PathBuf) -> impl AsyncRead + Send + Unpin {
    let (ours, theirs) = tokio::io::duplex(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut writer = Writer::new(SyncIoBridge::new(theirs));
        let mut skipped = 0;
        let written = archive::add(&mut writer, &directory, ".", &mut skipped);
        // Without its end the archive is cut short, and the daemon takes nothing of it.
        match written {
            Ok(()) => drop(writer.finish()),
            Err(error) => print::aside(&format!("isopod: {error}")),
        }
    });
    ours
}

/// Sends the archive in pieces, until its end or until nobody takes them.
async fn read(
    mut source: Source,
    sender: mpsc::Sender<LoadChunk>,
    name_hint: String,
) -> std::io::Result<()> {
    let mut name_hint = name_hint;
    let mut first = true;
    loop {
        let mut data = Vec::with_capacity(MAX_CHUNK_BYTES);
        let mut piece = (&mut source).take(MAX_CHUNK_BYTES as u64);
        let count = piece.read_to_end(&mut data).await?;
        if count == 0 && !first {
            return Ok(());
        }
        first = false;
        let chunk = LoadChunk { data: data.into(), name_hint: std::mem::take(&mut name_hint) };
        if sender.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}
