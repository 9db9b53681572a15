//! Pulls that cannot succeed.

use cri_api::v1::{AuthConfig, PullImageRequest};
use tonic::{Code, Status};

use super::image_pull::small;
use crate::case::{Stop, Verdict, cases, ensure};
use crate::context::{Context, refused, spec};
use crate::images::{Image, Mood};

cases! { "image-errors":
    "unknown-image" Api Codes ["PullImage", "PullImageRequest.image"]
        "An image that the registry does not have is NotFound." => unknown();
    "unknown-tag" Api Codes ["PullImage"]
        "A tag that the registry does not have is NotFound." => unknown_tag();
    "unknown-registry" Api Kubelet ["PullImage"]
        "A registry that cannot be reached is an error which names it." => unreachable();
    "malformed" Api Codes ["PullImage", "ImageSpec.image"]
        "A reference that cannot be one is InvalidArgument." => malformed("check.invalid/UPPER:tag");
    "malformed-tag" Api Codes ["PullImage", "ImageSpec.image"]
        "A tag that cannot be one is InvalidArgument." => malformed("check.invalid/a:b:c");
    "malformed-digest" Api Codes ["PullImage", "ImageSpec.image"]
        "A digest that is too short is InvalidArgument." => malformed("check.invalid/a@sha256:12");
    "empty" Api Codes ["PullImage", "ImageSpec.image"]
        "An empty reference is InvalidArgument." => malformed("");
    "no-image" Api Codes ["PullImage", "PullImageRequest.image"]
        "A pull without an image is InvalidArgument." => no_image();
    "wrong-password" Api Kubelet ["PullImage", "AuthConfig.password"] needs [OwnRegistry]
        "A wrong password is an error." => wrong_password();
    "no-password" Api Kubelet ["PullImage"] needs [OwnRegistry]
        "A repository that asks for a password is not had without." => fails(Mood::Password);
    "keeps-secrets" Api Kubelet ["PullImage", "AuthConfig.password"] needs [OwnRegistry]
        "An error does not show the password." => keeps_secrets();
    "corrupt-layer" Api Oci ["PullImage"] needs [OwnRegistry]
        "A layer whose bytes are not its digest's is an error." => fails(Mood::Corrupt);
    "short-layer" Api Oci ["PullImage"] needs [OwnRegistry]
        "A layer that is shorter than it says is an error." => fails(Mood::Short);
    "missing-layer" Api Oci ["PullImage"] needs [OwnRegistry]
        "A layer that the registry does not have is an error." => fails(Mood::NoLayers);
    "broken-registry" Api Kubelet ["PullImage"] needs [OwnRegistry]
        "A registry that answers 500 to everything is an error." => fails(Mood::Broken);
    "mended-registry" Api Kubelet ["PullImage"] needs [OwnRegistry]
        "After a broken layer, a pull from the mended registry succeeds." => mended();
    "failed-is-not-listed" Api Api ["PullImage", "ImageStatus"] needs [OwnRegistry]
        "An image whose pull failed is not on the node." => not_listed();
    "names-the-image" Api Kubelet ["PullImage"]
        "The error names the image." => names_it();
}

async fn host(c: &Context) -> String {
    c.shared.source.host()
}

async fn unknown(c: &Context) -> Verdict {
    let reference = format!("{}/check/no-such-thing:1", host(c).await);
    refused(c.pull(&reference).await, &[Code::NotFound]).map(|_| ())
}

async fn unknown_tag(c: &Context) -> Verdict {
    let repository = c.offer(&small(c)?, "a", "1").await?;
    refused(c.pull(&format!("{repository}:2")).await, &[Code::NotFound]).map(|_| ())
}

async fn unreachable(c: &Context) -> Verdict {
    // Port 1 of loopback: nobody listens there.
    let answer = c.rpc.pull_image(pull("127.0.0.1:1/check/a:1")).await;
    let Err(status) = answer else { return Err(Stop::failed("it is pulled")) };
    ensure!(status.message().contains("127.0.0.1:1"), "it says: {}", status.message());
    Ok(())
}

fn pull(reference: &str) -> PullImageRequest {
    PullImageRequest { image: Some(spec(reference)), ..Default::default() }
}

async fn malformed(c: &Context, reference: &str) -> Verdict {
    refused(c.rpc.pull_image(pull(reference)).await, &[Code::InvalidArgument]).map(|_| ())
}

async fn no_image(c: &Context) -> Verdict {
    let answer = c.rpc.pull_image(PullImageRequest::default()).await;
    refused(answer, &[Code::InvalidArgument]).map(|_| ())
}

/// A repository that behaves so, and an image in it.
async fn moody(c: &Context, mood: Mood) -> Result<(String, Image), Stop> {
    let image = small(c)?;
    let reference = format!("{}:1", c.offer(&image, "a", "1").await?);
    c.registry()?.be(&c.repository("a"), mood);
    Ok((reference, image))
}

async fn fails(c: &Context, mood: Mood) -> Verdict {
    let (reference, _) = moody(c, mood).await?;
    ensure!(c.pull(&reference).await.is_err(), "it is pulled");
    Ok(())
}

const WRONG: &str = "wrong-and-not-to-be-shown";

async fn with_wrong(c: &Context) -> Result<Status, Stop> {
    let (reference, _) = moody(c, Mood::Password).await?;
    let (username, password) = ("check".to_owned(), WRONG.to_owned());
    let auth = AuthConfig { username, password, ..Default::default() };
    match c.pull_as(&reference, Some(auth)).await {
        Ok(_) => Err(Stop::failed("it is pulled")),
        Err(status) => Ok(status),
    }
}

async fn wrong_password(c: &Context) -> Verdict {
    with_wrong(c).await.map(|_| ())
}

async fn keeps_secrets(c: &Context) -> Verdict {
    let status = with_wrong(c).await?;
    ensure!(!format!("{status:?}").contains(WRONG), "it does");
    Ok(())
}

async fn mended(c: &Context) -> Verdict {
    let (reference, image) = moody(c, Mood::Corrupt).await?;
    ensure!(c.pull(&reference).await.is_err(), "the broken one is pulled");
    c.registry()?.be(&c.repository("a"), Mood::Honest);
    c.pull(&reference).await?;
    let found = super::image_pull::status(c, &reference).await?.id;
    ensure!(found == image.id(), "the id is {found}");
    Ok(())
}

async fn not_listed(c: &Context) -> Verdict {
    let (reference, image) = moody(c, Mood::NoLayers).await?;
    ensure!(c.pull(&reference).await.is_err(), "it is pulled");
    for name in [reference, image.id()] {
        ensure!(c.image_status(&name).await?.is_none(), "{name} is");
    }
    Ok(())
}

async fn names_it(c: &Context) -> Verdict {
    let reference = format!("{}/check/no-such-thing:1", host(c).await);
    let Err(status) = c.pull(&reference).await else { return Err(Stop::failed("it is pulled")) };
    ensure!(status.message().contains("check/no-such-thing"), "it says: {}", status.message());
    Ok(())
}
