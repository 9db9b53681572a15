//! `isopod images`.

use cri_api::v1::{Image, ImageFilter, ImageSpec, ListImagesRequest, ListImagesResponse};

use super::failure::{Doing, Failure, Outcome};
use super::find::hex;
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{bytes, short};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
    /// Show the digests that the images were fetched by
    #[arg(long)]
    digests: bool,
    /// Print ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Show the pulls that run now, with their progress
    #[arg(long, conflicts_with_all = ["quiet", "digests", "no_trunc", "image"])]
    pulling: bool,
    /// Only the image of this name
    image: Option<String>,
}

/// Lists images: a row for each name.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    if args.pulling {
        return super::pull::running(node, form).await;
    }
    let filter = args.image.as_ref().map(|name| ImageFilter {
        image: Some(ImageSpec { image: name.clone(), ..Default::default() }),
    });
    let request = ListImagesRequest { filter };
    let images = node.images().list_images(request).await.doing("list images")?.into_inner().images;
    match form {
        Form::Table if args.quiet => images.iter().try_for_each(|image| print::line(&image.id))?,
        Form::Table => table(images, args)?,
        Form::Json | Form::Yaml => {
            let answer = ListImagesResponse { images };
            print::value(&print::json_of(&answer, "ListImagesResponse")?, form)?;
        }
    }
    Ok(0)
}

fn table(images: Vec<Image>, args: &Args) -> Result<(), Failure> {
    let mut columns = vec!["IMAGE", "IMAGE ID", "SIZE"];
    if args.digests {
        columns.push("DIGEST");
    }
    let mut lines: Vec<Vec<String>> =
        images.iter().flat_map(|image| rows_of(image, args)).collect();
    lines.sort();
    let mut rows = Rows::new(&columns);
    lines.into_iter().for_each(|line| rows.add(line));
    rows.print()
}

/// A row for each name; one without a tag goes by the digest that it was fetched by.
fn rows_of(image: &Image, args: &Args) -> Vec<Vec<String>> {
    let id = hex(&image.id);
    let id = if args.no_trunc { id } else { short(id) };
    let mut names = image.repo_tags.clone();
    if names.is_empty() {
        names.clone_from(&image.repo_digests);
    }
    if names.is_empty() {
        names.push("<none>".to_owned());
    }
    let digest = image.repo_digests.first().and_then(|name| name.split_once('@'));
    let digest = digest.map_or("", |(_, digest)| digest);
    let row = |name| {
        let mut row = vec![name, id.to_owned(), bytes(image.size)];
        if args.digests {
            row.push(digest.to_owned());
        }
        row
    };
    names.into_iter().map(row).collect()
}
