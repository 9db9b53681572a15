//! Lists and statuses of images, and the room that they take.

use std::collections::BTreeSet;

use cri_api::v1::*;

use super::image_pull::small;
use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, spec};
use crate::rpc::drained;

cases! { "image-list":
    "has-all" Api Api ["ListImages", "ListImagesResponse.images"]
        "Without a filter, every image is listed once." => unfiltered(Way::List);
    "by-name" Api Api ["ListImages", "ListImagesRequest.filter", "ImageFilter.image"]
        "A filter by name gives the one image." => by_name(Way::List);
    "by-id" Api Api ["ListImages", "ImageFilter.image"]
        "A filter by id gives the one image." => by_id(Way::List);
    "by-digest" Api Api ["ListImages", "ImageFilter.image"]
        "A filter by digest gives the one image." => by_digest(Way::List);
    "by-unknown" Api Api ["ListImages", "ImageFilter.image"]
        "An unknown name gives an empty list, not an error." => by_unknown(Way::List);
    "items-are-true" Api Api ["ListImages", "Image"]
        "What a list says of an image is what its status says." => items(Way::List);
    "stream-has-all" Api Api ["StreamImages", "StreamImagesResponse.images"]
        "Streamed without a filter, every image comes once." => unfiltered(Way::Stream);
    "stream-by-name" Api Api ["StreamImages", "StreamImagesRequest.filter"]
        "Streamed by name, the one image comes." => by_name(Way::Stream);
    "stream-by-unknown" Api Api ["StreamImages", "StreamImagesRequest.filter"]
        "Streamed by an unknown name, nothing comes, and that is no error." => by_unknown(Way::Stream);
    "stream-items-are-true" Api Api ["StreamImages", "Image"]
        "What a stream says of an image is what its status says." => items(Way::Stream);
    "status-absent" Api Kubelet ["ImageStatus", "ImageStatusResponse.image"]
        "An image that is not there is an answer without an image, not an error." => absent();
    "status-by-id" Api Api ["ImageStatus", "ImageStatusRequest.image"]
        "An image is found by its id." => status_by_id();
    "status-by-digest" Api Api ["ImageStatus", "ImageStatusRequest.image"]
        "An image is found by its digest." => status_by_digest();
    "status-by-answer" Api Kubelet ["ImageStatus", "PullImageResponse.image_ref"]
        "An image is found by what the pull answered." => status_by_answer();
    "status-brief" Api Api ["ImageStatus", "ImageStatusRequest.verbose", "ImageStatusResponse.info"]
        "Without verbose there is no info." => info(false);
    "status-verbose" Api Api ["ImageStatus", "ImageStatusRequest.verbose",
            "ImageStatusResponse.info"]
        "With verbose there is info." => info(true);
    "room" Api Kubelet ["ImageFsInfo", "ImageFsInfoResponse.image_filesystems",
            "FilesystemUsage.timestamp", "FilesystemUsage.fs_id", "FilesystemUsage.used_bytes",
            "FilesystemUsage.inodes_used", "FilesystemIdentifier.mountpoint", "UInt64Value.value"]
        "The room of images has a time, a place, bytes and inodes." => room();
    "room-is-there" Program Kubelet ["ImageFsInfo", "FilesystemIdentifier.mountpoint"]
        "The place that is named is a directory of the node." => room_is_there();
    "room-of-containers" Api Kubelet ["ImageFsInfo", "ImageFsInfoResponse.container_filesystems"]
        "The room of containers is told where a runtime tells it at all." => room_of_containers();
}

#[derive(Clone, Copy)]
enum Way {
    List,
    Stream,
}

async fn list(c: &Context, way: Way, image: Option<&str>) -> Result<Vec<Image>, Stop> {
    let filter = image.map(|image| ImageFilter { image: Some(spec(image)) });
    let all = match way {
        Way::List => c.rpc.list_images(ListImagesRequest { filter }).await?.images,
        Way::Stream => {
            let stream = c.rpc.stream_images(StreamImagesRequest { filter }).await?;
            drained(stream).await?.into_iter().flat_map(|part| part.images).collect()
        }
    };
    let ids: BTreeSet<&String> = all.iter().map(|image| &image.id).collect();
    ensure!(ids.len() == all.len(), "an image is there twice");
    Ok(all)
}

/// A pulled image: its repository, and its id.
async fn pulled(c: &Context) -> Result<(String, crate::images::Image), Stop> {
    let image = small(c)?;
    let repository = c.offer(&image, "list", "1").await?;
    c.pull(&format!("{repository}:1")).await?;
    Ok((repository, image))
}

fn ids(images: &[Image]) -> Vec<&str> {
    images.iter().map(|image| image.id.as_str()).collect()
}

async fn unfiltered(c: &Context, way: Way) -> Verdict {
    let (_, image) = pulled(c).await?;
    let all = list(c, way, None).await?;
    ensure!(ids(&all).contains(&image.id().as_str()), "it is not there");
    Ok(())
}

async fn by_name(c: &Context, way: Way) -> Verdict {
    let (repository, image) = pulled(c).await?;
    same!("the list", ids(&list(c, way, Some(&format!("{repository}:1"))).await?), [image.id()]);
    Ok(())
}

async fn by_id(c: &Context, way: Way) -> Verdict {
    let (_, image) = pulled(c).await?;
    same!("the list", ids(&list(c, way, Some(&image.id())).await?), [image.id()]);
    Ok(())
}

async fn by_digest(c: &Context, way: Way) -> Verdict {
    let (repository, image) = pulled(c).await?;
    let reference = format!("{repository}@{}", image.manifest().digest);
    same!("the list", ids(&list(c, way, Some(&reference)).await?), [image.id()]);
    Ok(())
}

async fn by_unknown(c: &Context, way: Way) -> Verdict {
    same!("the list", list(c, way, Some("check.invalid/no/such:image")).await?, []);
    Ok(())
}

async fn items(c: &Context, way: Way) -> Verdict {
    let (repository, _) = pulled(c).await?;
    let reference = format!("{repository}:1");
    let status = super::image_pull::status(c, &reference).await?;
    same!("the list", list(c, way, Some(&reference)).await?, [status]);
    Ok(())
}

async fn absent(c: &Context) -> Verdict {
    let found = c.image_status("check.invalid/no/such:image").await?;
    ensure!(found.is_none(), "it is {found:?}");
    Ok(())
}

async fn finds(c: &Context, reference: &str, image: &crate::images::Image) -> Verdict {
    same!("the id", super::image_pull::status(c, reference).await?.id, image.id());
    Ok(())
}

async fn status_by_id(c: &Context) -> Verdict {
    let (_, image) = pulled(c).await?;
    finds(c, &image.id(), &image).await
}

async fn status_by_digest(c: &Context) -> Verdict {
    let (repository, image) = pulled(c).await?;
    finds(c, &format!("{repository}@{}", image.manifest().digest), &image).await
}

async fn status_by_answer(c: &Context) -> Verdict {
    let (repository, image) = pulled(c).await?;
    let answer = c.pull(&format!("{repository}:1")).await?;
    finds(c, &answer, &image).await
}

async fn info(c: &Context, verbose: bool) -> Verdict {
    let request = ImageStatusRequest { image: Some(spec(c.image())), verbose };
    same!("having info", !c.rpc.image_status(request).await?.info.is_empty(), verbose);
    Ok(())
}

async fn rooms(c: &Context) -> Result<ImageFsInfoResponse, Stop> {
    Ok(c.rpc.image_fs_info(ImageFsInfoRequest {}).await?)
}

async fn room(c: &Context) -> Verdict {
    let all = rooms(c).await?.image_filesystems;
    ensure!(!all.is_empty(), "there is none");
    for one in all {
        let says = one.timestamp > 0
            && one.fs_id.as_ref().is_some_and(|id| !id.mountpoint.is_empty())
            && one.used_bytes.is_some_and(|bytes| bytes.value > 0)
            && one.inodes_used.is_some_and(|inodes| inodes.value > 0);
        ensure!(says, "{one:?}");
    }
    Ok(())
}

async fn room_is_there(c: &Context) -> Verdict {
    for one in rooms(c).await?.image_filesystems {
        let place = one.fs_id.unwrap_or_default().mountpoint;
        ensure!(std::path::Path::new(&place).is_dir(), "{place:?} is none");
    }
    Ok(())
}

async fn room_of_containers(c: &Context) -> Verdict {
    let all = rooms(c).await?.container_filesystems;
    if all.is_empty() {
        return Err(Stop::Skipped("the runtime tells no room of containers".to_owned()));
    }
    for one in all {
        let place = one.fs_id.clone().unwrap_or_default().mountpoint;
        ensure!(!place.is_empty() && one.used_bytes.is_some(), "{one:?}");
    }
    Ok(())
}
