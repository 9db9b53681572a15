//! `isopod save`.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use admin_api::v1::{SaveChunk, SaveRequest};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tonic::Streaming;

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::node::Node;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write; stdout where none is given
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Writes a tar of an OCI image layout that `docker load` takes too.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let doing = format!("save {}", args.images.join(", "));
    if args.file.is_none() && io::stdout().is_terminal() {
        return Err(Failure::new(doing, "an archive is not for a terminal")
            .advise("name a file with --file, or send stdout elsewhere"));
    }
    for image in &args.images {
        find::image(node, image).await?;
    }
    let request = SaveRequest { images: args.images.clone() };
    let chunks = node.admin().save_image(request).await.doing(&doing)?.into_inner();
    match &args.file {
        None => copy(chunks, &mut tokio::io::stdout(), &doing).await?,
        Some(path) => to_file(chunks, path, &doing).await?,
    }
    Ok(0)
}

/// A file that could not be written to its end is removed: half an archive is a trap.
async fn to_file(chunks: Streaming<SaveChunk>, path: &Path, doing: &str) -> Result<(), Failure> {
    let doing = format!("{doing} to {}", path.display());
    let mut file = tokio::fs::File::create(path).await.doing(&doing)?;
    let copied = copy(chunks, &mut file, &doing).await;
    if copied.is_err() {
        let _ = tokio::fs::remove_file(path).await;
    }
    copied
}

async fn copy(
    mut chunks: Streaming<SaveChunk>,
    to: &mut (impl AsyncWrite + Unpin),
    doing: &str,
) -> Result<(), Failure> {
    while let Some(chunk) = chunks.message().await.doing(doing)? {
        to.write_all(&chunk.data).await.doing(doing)?;
    }
    to.flush().await.doing(doing)
}
