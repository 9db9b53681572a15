//! RemoveImage.

use cri_api::v1::*;
use tonic::Code;

use super::image_pull::small;
use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, refused};

cases! { "image-remove":
    "by-name" Api Api ["RemoveImage", "RemoveImageRequest.image"]
        "An image that was removed by name is gone." => by(Name::Tag);
    "by-id" Api Api ["RemoveImage"] "An image that was removed by id is gone." => by(Name::Id);
    "by-digest" Api Api ["RemoveImage"]
        "An image that was removed by digest is gone." => by(Name::Digest);
    "again" Api Api ["RemoveImage"] "Removing a removed image succeeds." => again();
    "unknown" Api Api ["RemoveImage"] "Removing an image that is not there succeeds." => unknown();
    "all-names" Api Kubelet ["RemoveImage", "Image.repo_tags"]
        "With one of its names all names of the image go." => all_names();
    "leaves-others" Api Api ["RemoveImage"]
        "Another image that shares its layers stays whole." => leaves_others();
    "pull-again" Api Kubelet ["RemoveImage", "PullImage"]
        "A removed image can be pulled again." => pull_again();
    "in-use" Api Kubelet ["RemoveImage"]
        "Removing the image of a container that runs succeeds, and the container goes on." => in_use();
    "in-use-of-created" Program Kubelet ["RemoveImage", "StartContainer"]
        "A container that is yet to start keeps its image's data." => in_use_of_created();
    "is-not-listed" Api Api ["RemoveImage", "ListImages"]
        "A removed image is not listed." => not_listed();
    "no-image" Api Codes ["RemoveImage", "RemoveImageRequest.image"]
        "A removal without an image is InvalidArgument." => no_image();
}

#[derive(Clone, Copy)]
enum Name {
    Tag,
    Id,
    Digest,
}

async fn by(c: &Context, name: Name) -> Verdict {
    let image = small(c)?;
    let repository = c.offer(&image, "a", "1").await?;
    let tag = format!("{repository}:1");
    c.pull(&tag).await?;
    let name = match name {
        Name::Tag => tag.clone(),
        Name::Id => image.id(),
        Name::Digest => format!("{repository}@{}", image.manifest().digest),
    };
    c.remove_image(&name).await?;
    for reference in [&name, &tag, &image.id()] {
        ensure!(c.image_status(reference).await?.is_none(), "{reference} is there still");
    }
    Ok(())
}

async fn pulled(c: &Context) -> Result<(String, crate::images::Image), Stop> {
    let image = small(c)?;
    let reference = format!("{}:1", c.offer(&image, "a", "1").await?);
    c.pull(&reference).await?;
    Ok((reference, image))
}

async fn again(c: &Context) -> Verdict {
    let (reference, _) = pulled(c).await?;
    for _ in 0..3 {
        c.remove_image(&reference).await?;
    }
    Ok(())
}

async fn unknown(c: &Context) -> Verdict {
    Ok(c.remove_image("check.invalid/no/such:image").await?)
}

async fn all_names(c: &Context) -> Verdict {
    let image = small(c)?;
    c.offer(&image, "a", "2").await?;
    let repository = c.offer(&image, "a", "1").await?;
    let names = [format!("{repository}:1"), format!("{repository}:2")];
    for name in &names {
        c.pull(name).await?;
    }
    c.remove_image(&names[0]).await?;
    for name in &names {
        ensure!(c.image_status(name).await?.is_none(), "{name} is there still");
    }
    Ok(())
}

async fn leaves_others(c: &Context) -> Verdict {
    let first = c.shared.busybox.clone().unique(&format!("{}-1", c.mark));
    let second = c.shared.busybox.clone().unique(&format!("{}-2", c.mark));
    let mut names = Vec::new();
    for (name, image) in [("a", &first), ("b", &second)] {
        names.push(format!("{}:1", c.offer(image, name, "1").await?));
    }
    for name in &names {
        c.pull(name).await?;
    }
    c.remove_image(&names[0]).await?;
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.image.get_or_insert_default().image = names[1].clone();
    let id = c.launch(&pod, &config).await?;
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}

async fn pull_again(c: &Context) -> Verdict {
    let (reference, image) = pulled(c).await?;
    c.remove_image(&reference).await?;
    c.pull(&reference).await?;
    same!("the id", super::image_pull::status(c, &reference).await?.id, image.id());
    Ok(())
}

async fn with_own_image(c: &Context) -> Result<(String, ContainerConfig), Stop> {
    let image = c.shared.busybox.clone().unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "used", "1").await?);
    c.pull(&reference).await?;
    let mut config = c.waiter();
    config.image.get_or_insert_default().image = reference.clone();
    Ok((reference, config))
}

async fn in_use(c: &Context) -> Verdict {
    let (reference, config) = with_own_image(c).await?;
    let pod = c.pod().await?;
    let id = c.launch(&pod, &config).await?;
    c.remove_image(&reference).await?;
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerRunning);
    Ok(())
}

async fn in_use_of_created(c: &Context) -> Verdict {
    let (reference, config) = with_own_image(c).await?;
    let pod = c.pod().await?;
    let id = c.create(&pod, &config).await?;
    c.remove_image(&reference).await?;
    c.start(&id).await?;
    same!("what it says", c.exec(&id, &["echo", "here"]).await?, "here\n");
    Ok(())
}

async fn not_listed(c: &Context) -> Verdict {
    let (reference, image) = pulled(c).await?;
    c.remove_image(&reference).await?;
    let all = c.rpc.list_images(ListImagesRequest { filter: None }).await?.images;
    ensure!(all.iter().all(|listed| listed.id != image.id()), "it is");
    Ok(())
}

async fn no_image(c: &Context) -> Verdict {
    let answer = c.rpc.remove_image(RemoveImageRequest { image: None }).await;
    refused(answer, &[Code::InvalidArgument]).map(|_| ())
}
