//! `isopod rmi`, `isopod tag` and `isopod imagefsinfo`.

use admin_api::v1::TagRequest;
use cri_api::v1::{
    FilesystemUsage, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListContainersRequest,
    RemoveImageRequest,
};

use super::container::each;
use super::failure::{Doing, Outcome};
use super::find;
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{bytes, short};

/// Arguments of `rmi`.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Arguments of `tag`.
#[derive(Debug, clap::Args)]
pub struct TagArgs {
    /// A name, an id, or the beginning of one
    image: String,
    /// The new name
    name: String,
}

/// Removes images. The data of one that a container uses stays until that is gone.
pub async fn remove(node: &Node, args: &RemoveArgs) -> Outcome {
    each(&args.images, async |text| {
        let image = find::image(node, text).await?;
        let spec = ImageSpec { image: image.clone(), ..Default::default() };
        let request = RemoveImageRequest { image: Some(spec) };
        node.images().remove_image(request).await.doing(format!("remove image {text}"))?;
        print::line(text)?;
        let listed = node.runtime().list_containers(ListContainersRequest::default()).await;
        // It is removed; this is beside it.
        let all = listed.map(|answer| answer.into_inner().containers).unwrap_or_default();
        let users: Vec<&str> =
            all.iter().filter(|one| one.image_id == image).map(|one| short(&one.id)).collect();
        if !users.is_empty() {
            let users = users.join(", ");
            print::aside(&format!(
                "isopod: these containers still have {text}, and keep its room until they are removed: {users}"
            ));
        }
        Ok(())
    })
    .await
}

/// Gives an image one more name.
pub async fn tag(node: &Node, args: &TagArgs) -> Outcome {
    let image = find::image(node, &args.image).await?;
    let request = TagRequest { image, name: args.name.clone() };
    let doing = format!("name image {} {}", args.image, args.name);
    let answer = node.admin().tag_image(request).await.doing(doing)?.into_inner();
    print::line(&answer.name)?;
    Ok(0)
}

/// Whether an image of this name is on the node.
pub async fn is_here(node: &Node, name: &str) -> Result<bool, super::failure::Failure> {
    let spec = ImageSpec { image: name.to_owned(), ..Default::default() };
    let request = ImageStatusRequest { image: Some(spec), verbose: false };
    let answer = node.images().image_status(request).await.doing(format!("look for {name}"))?;
    Ok(answer.into_inner().image.is_some())
}

/// Shows what images and containers use of the disks.
pub async fn fs_info(node: &Node, form: Form) -> Outcome {
    let request = ImageFsInfoRequest {};
    let answer = node.images().image_fs_info(request).await.doing("read disk usage")?.into_inner();
    if form != Form::Table {
        print::value(&print::json_of(&answer, "ImageFsInfoResponse")?, form)?;
        return Ok(0);
    }
    let mut rows = Rows::new(&["WHAT", "USED", "INODES", "MOUNT POINT"]);
    let images = answer.image_filesystems.iter().map(|usage| ("images", usage));
    let containers = answer.container_filesystems.iter().map(|usage| ("containers", usage));
    images.chain(containers).for_each(|(what, usage)| rows.add(row(what, usage)));
    rows.print()?;
    Ok(0)
}

fn row(what: &str, usage: &FilesystemUsage) -> [String; 4] {
    let used = usage.used_bytes.as_ref().map_or(0, |used| used.value);
    let inodes = usage.inodes_used.as_ref().map_or(0, |used| used.value);
    let at = usage.fs_id.as_ref().map_or("", |id| id.mountpoint.as_str());
    [what.to_owned(), bytes(used), inodes.to_string(), at.to_owned()]
}
