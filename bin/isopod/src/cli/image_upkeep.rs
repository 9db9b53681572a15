//! `isopod image check` and `isopod image prune`.

use admin_api::v1::{
    CheckImagesReply, CheckImagesRequest, DamagedLayer, Mended, PruneImagesReply,
    PruneImagesRequest,
};
use serde_json::{Value, json};

use super::failure::{Doing, EXIT_FAILURE, Failure, Outcome};
use super::find::hex;
use super::node::Node;
use super::print::{self, Form};
use super::text::{bytes, short};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Compare all files of all images with what was pulled
    Check {
        /// Fetch damaged layers again, and no others
        #[arg(long)]
        repair: bool,
    },
    /// Remove images that no container uses and that have no name
    Prune {
        /// Also those that have a name
        #[arg(long, short)]
        all: bool,
    },
}

/// Does it.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    match args.what {
        What::Check { repair } => check(node, repair, form).await,
        What::Prune { all } => prune(node, all, form).await,
    }
}

/// Ends with 1 while a layer is damaged.
async fn check(node: &Node, repair: bool, form: Form) -> Outcome {
    let answer = node.admin().check_images(CheckImagesRequest { repair }).await;
    let answer = answer.doing("check the images")?.into_inner();
    let is_whole = |layer: &DamagedLayer| matches!(layer.mended(), Mended::Whole | Mended::Removed);
    let code = if answer.damaged.iter().all(is_whole) { 0 } else { EXIT_FAILURE };
    if form == Form::Table {
        tell(&answer)?;
    } else {
        print::value(&checked_json(&answer), form)?;
    }
    Ok(code)
}

fn tell(answer: &CheckImagesReply) -> Result<(), Failure> {
    let CheckImagesReply { layers, files, damaged } = answer;
    for layer in damaged {
        let id = short(hex(&layer.chain_id));
        let images: Vec<&str> = layer.images.iter().map(|image| short(hex(image))).collect();
        let bad = layer.bad;
        print::line(&format!(
            "layer {id} is damaged in {bad} places (images: {})",
            images.join(", ")
        ))?;
        for problem in &layer.problems {
            print::line(&format!("  {problem}"))?;
        }
        let detail = &layer.detail;
        let outcome = match layer.mended() {
            Mended::NotAsked => "  --repair fetches it again".to_owned(),
            Mended::Whole => format!("  it is whole again, from {detail}"),
            Mended::Removed => "  no image had it; it is removed".to_owned(),
            Mended::InUse => {
                "  a container uses it: remove the container, then repair again".to_owned()
            }
            Mended::Failed => format!("  it could not be fetched again: {detail}"),
        };
        print::line(&outcome)?;
    }
    let bad = damaged.len();
    print::line(&format!("{layers} layers with {files} files were read, {bad} were damaged"))
}

fn checked_json(answer: &CheckImagesReply) -> Value {
    let damaged: Vec<Value> = answer
        .damaged
        .iter()
        .map(|layer| {
            json!({
                "chainId": layer.chain_id,
                "bad": layer.bad,
                "problems": layer.problems,
                "images": layer.images,
                "mended": layer.mended().as_str_name(),
                "detail": layer.detail,
            })
        })
        .collect();
    json!({ "layers": answer.layers, "files": answer.files, "damaged": damaged })
}

async fn prune(node: &Node, all: bool, form: Form) -> Outcome {
    let answer = node.admin().prune_images(PruneImagesRequest { all }).await;
    let PruneImagesReply { images, bytes: freed } = answer.doing("prune images")?.into_inner();
    if form != Form::Table {
        let images: Vec<Value> =
            images.iter().map(|i| json!({ "id": i.id, "names": i.names })).collect();
        print::value(&json!({ "images": images, "bytes": freed }), form)?;
        return Ok(0);
    }
    for image in &images {
        let id = short(hex(&image.id));
        print::line(&format!("{id}  {}", image.names.join(", ")))?;
    }
    print::line(&format!("{} images removed, {} freed", images.len(), bytes(freed)))?;
    Ok(0)
}
