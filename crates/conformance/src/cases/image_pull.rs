//! PullImage: what images there are, and how they come.

use cri_api::v1::{AuthConfig, ImageFilter, ImageSpec, ListImagesRequest, PullImageRequest};
use serde_json::json;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, Image_, spec};
use crate::images::{Compression, Image, Index, Layer, Mood, PASSWORD, TOKEN, USER};

cases! { "image-pull":
    "answer-is-the-id" Api Kubelet ["PullImage", "PullImageResponse.image_ref", "Image.id"]
        "The answer is a reference by which the image is found." => answer();
    "id-is-the-config" Api Kubelet ["PullImage", "Image.id"]
        "An image's id is the digest of its configuration." => id();
    "is-listed" Api Api ["PullImage", "ListImages"]
        "A pulled image is listed." => listed();
    "by-digest" Api Oci ["PullImage", "Image.repo_digests"]
        "An image can be pulled by digest." => by_digest();
    "by-tag-and-digest" Api Kubelet ["PullImage", "ImageSpec.image"]
        "Of a tag and a digest the digest counts." => by_both();
    "repo-tags" Api Api ["ImageStatus", "Image.repo_tags"]
        "The name with its tag is among the image's names." => repo_tags();
    "repo-digests" Api Api ["ImageStatus", "Image.repo_digests"]
        "The name with its manifest's digest is among the image's digests." => repo_digests();
    "two-tags" Api Kubelet ["ImageStatus", "Image.repo_tags"]
        "Two tags of one image are one image with both names." => two_tags();
    "two-repositories" Api Kubelet ["ImageStatus", "Image.repo_tags", "Image.repo_digests"]
        "One image from two repositories is one image with names of both." => two_repositories();
    "moved-tag" Api Kubelet ["PullImage", "Image.repo_tags"]
        "A tag that was moved in the registry is moved by the next pull." => moved_tag();
    "size" Api Api ["ImageStatus", "Image.size"]
        "An image has a size." => size();
    "user-by-number" Api Kubelet ["ImageStatus", "Image.uid", "Int64Value.value"]
        "A user that is a number is given as a number." => user("1234", Some(1234), "");
    "user-is-root" Api Kubelet ["ImageStatus", "Image.uid"]
        "User 0 is given as the number 0." => user("0", Some(0), "");
    "user-by-name" Api Kubelet ["ImageStatus", "Image.username"]
        "A user that is a name is given as a name, without a number." => user("worker", None, "worker");
    "user-with-group" Api Kubelet ["ImageStatus", "Image.uid"]
        "A group after the user does not matter." => user("1234:99", Some(1234), "");
    "not-pinned" Api Kubelet ["ImageStatus", "Image.pinned"]
        "An image that nobody pins is not pinned." => not_pinned();
    "plain-layers" Linux Oci ["PullImage"] "Layers that are not compressed are taken." =>
        layers(Compression::Plain);
    "gzip-layers" Linux Oci ["PullImage"] "Layers in gzip are taken." => layers(Compression::Gzip);
    "zstd-layers" Linux Oci ["PullImage"] "Layers in Zstandard are taken." => layers(Compression::Zstd);
    "docker-schema" Api Oci ["PullImage"]
        "Manifests of Docker's schema 2 are taken." => docker();
    "index" Api Oci ["PullImage"]
        "Of an index, the image of this machine's architecture is taken." => index();
    "index-without-ours" Api Oci ["PullImage"] needs [OwnRegistry]
        "An index without an image for this machine is an error." => index_without();
    "annotations-stay" Api Api ["PullImage", "ImageSpec.annotations"]
        "Annotations on the request are no obstacle." => annotated();
    "with-password" Api Kubelet ["PullImage", "PullImageRequest.auth", "AuthConfig.username",
            "AuthConfig.password"] needs [OwnRegistry]
        "User and password of the request are used." => with(Mood::Password, Auth::Password);
    "with-auth-field" Api Kubelet ["PullImage", "AuthConfig.auth"] needs [OwnRegistry]
        "User and password in one base64 word are used." => with(Mood::Password, Auth::Word);
    "with-token" Api Oci ["PullImage", "AuthConfig.username", "AuthConfig.server_address"]
        needs [OwnRegistry]
        "A token is fetched with user and password where the registry asks for one." =>
        with(Mood::Token, Auth::Password);
    "with-registry-token" Api Kubelet ["PullImage", "AuthConfig.registry_token"] needs [OwnRegistry]
        "A token of the request is sent as it is." => with(Mood::Token, Auth::Token);
    "stumbling-registry" Api Kubelet ["PullImage"] needs [OwnRegistry]
        "A registry that is unavailable for a moment does not end the pull." => stumbling();
    "shared-layers" Api Oci ["PullImage"] needs [OwnRegistry]
        "A layer that is here is not fetched again for another image." => shared_layers();
    "second-pull-fetches-nothing" Api Kubelet ["PullImage"] needs [OwnRegistry]
        "A second pull of an unchanged image fetches no layer." => second_pull();
    "layers-in-order" Linux Oci ["PullImage"]
        "A file of an upper layer hides that of a lower one; a whiteout removes it." => order();
    "opaque-directory" Linux Oci ["PullImage"]
        "An opaque directory hides all that lower layers have in it." => opaque();
    "links-and-owners" Linux Oci ["PullImage"]
        "Links, owners and modes of files arrive as they are in the layer." => attributes();
    "escaping-link" Linux Oci ["PullImage"]
        "A layer that writes through a link out of the root leaves the node alone." => escaping();
}

async fn pulled(c: &Context, image: &Image, name: &str) -> Result<(String, Image_), Stop> {
    let reference = format!("{}:1", c.offer(image, name, "1").await?);
    c.pull(&reference).await?;
    Ok((reference.clone(), status(c, &reference).await?))
}

pub(super) async fn status(c: &Context, reference: &str) -> Result<Image_, Stop> {
    let status = c.image_status(reference).await?;
    status.ok_or_else(|| Stop::failed(format!("{reference} is not on the node")))
}

pub(super) fn small(c: &Context) -> Result<Image, Stop> {
    let mark = format!("{}-{}", c.mark, c.number());
    let layer = Layer::new().file("mark", 0o644, mark.as_bytes()).build(Compression::Gzip)?;
    Ok(Image::new(vec![layer]).unique(&mark))
}

async fn answer(c: &Context) -> Verdict {
    let image = small(c)?;
    let reference = format!("{}:1", c.offer(&image, "a", "1").await?);
    let answer = c.pull(&reference).await?;
    same!("the image's id", status(c, &answer).await?.id, status(c, &reference).await?.id);
    Ok(())
}

async fn id(c: &Context) -> Verdict {
    let image = small(c)?;
    same!("the id", pulled(c, &image, "a").await?.1.id, image.id());
    Ok(())
}

async fn listed(c: &Context) -> Verdict {
    let (_, image) = pulled(c, &small(c)?, "a").await?;
    let all = c.rpc.list_images(ListImagesRequest { filter: None }).await?.images;
    ensure!(all.iter().any(|listed| listed.id == image.id), "it is not");
    Ok(())
}

async fn by_digest(c: &Context) -> Verdict {
    let image = small(c)?;
    let repository = c.offer(&image, "a", "1").await?;
    let reference = format!("{repository}@{}", image.manifest().digest);
    c.pull(&reference).await?;
    let found = status(c, &reference).await?;
    same!("the id", found.id, image.id());
    same!("the digests", found.repo_digests, [reference]);
    Ok(())
}

async fn by_both(c: &Context) -> Verdict {
    let (one, two) = (small(c)?, small(c)?);
    c.offer(&two, "a", "1").await?;
    let repository = c.offer(&one, "a", "1").await?;
    let reference = format!("{repository}:1@{}", two.manifest().digest);
    c.pull(&reference).await?;
    same!("the id", status(c, &reference).await?.id, two.id());
    Ok(())
}

async fn repo_tags(c: &Context) -> Verdict {
    let (reference, image) = pulled(c, &small(c)?, "a").await?;
    same!("the names", image.repo_tags, [reference]);
    Ok(())
}

async fn repo_digests(c: &Context) -> Verdict {
    let image = small(c)?;
    let repository = c.offer(&image, "a", "1").await?;
    c.pull(&format!("{repository}:1")).await?;
    let found = status(c, &format!("{repository}:1")).await?.repo_digests;
    same!("the digests", found, [format!("{repository}@{}", image.manifest().digest)]);
    Ok(())
}

async fn two_tags(c: &Context) -> Verdict {
    let image = small(c)?;
    c.offer(&image, "a", "2").await?;
    let repository = c.offer(&image, "a", "1").await?;
    let names = [format!("{repository}:1"), format!("{repository}:2")];
    for name in &names {
        c.pull(name).await?;
    }
    let mut found = status(c, &names[0]).await?.repo_tags;
    found.sort();
    same!("the names", found, names);
    Ok(())
}

async fn two_repositories(c: &Context) -> Verdict {
    let image = small(c)?;
    let mut names = Vec::new();
    for name in ["a", "b"] {
        names.push(pulled(c, &image, name).await?.0);
    }
    let mut found = status(c, &names[0]).await?;
    found.repo_tags.sort();
    same!("the names", found.repo_tags, names);
    same!("the number of digests", found.repo_digests.len(), 2);
    Ok(())
}

async fn moved_tag(c: &Context) -> Verdict {
    let (old, new) = (small(c)?, small(c)?);
    let (reference, first) = pulled(c, &old, "a").await?;
    c.scope.image(&first.id);
    let (_, second) = pulled(c, &new, "a").await?;
    same!("the id", second.id, new.id());
    if let Some(left) = c.image_status(&first.id).await? {
        ensure!(!left.repo_tags.contains(&reference), "the old image has the name still");
    }
    Ok(())
}

async fn size(c: &Context) -> Verdict {
    ensure!(pulled(c, &small(c)?, "a").await?.1.size > 0, "it is 0");
    Ok(())
}

async fn user(c: &Context, user: &str, uid: Option<i64>, name: &str) -> Verdict {
    let image = small(c)?.set("User", json!(user));
    let found = pulled(c, &image, "a").await?.1;
    same!("the number", found.uid.map(|uid| uid.value), uid);
    same!("the name", found.username, name);
    Ok(())
}

async fn not_pinned(c: &Context) -> Verdict {
    ensure!(!pulled(c, &small(c)?, "a").await?.1.pinned, "it is");
    Ok(())
}

/// Runs a container of an image that has the layers on busybox, and gives what a script says.
async fn look(
    c: &Context,
    layers: Vec<Layer>,
    form: Compression,
    script: &str,
) -> Result<String, Stop> {
    let mut image = c.shared.busybox.clone().unique(&c.mark);
    for layer in layers {
        image = image.layer(layer.build(form)?);
    }
    let (reference, _) = pulled(c, &image, "a").await?;
    let pod = c.pod().await?;
    let mut config = c.script(script);
    config.image.get_or_insert_default().image = reference;
    c.output(&pod, &config).await
}

async fn layers(c: &Context, form: Compression) -> Verdict {
    let layer = Layer::new().file("mark", 0o644, b"words\n");
    same!("the file", look(c, vec![layer], form, "cat /mark").await?, "words\n");
    Ok(())
}

async fn docker(c: &Context) -> Verdict {
    let image = small(c)?.in_docker_form();
    same!("the id", pulled(c, &image, "a").await?.1.id, image.id());
    Ok(())
}

async fn index(c: &Context) -> Verdict {
    let (other, ours) = (small(c)?.for_architecture("s390x"), small(c)?);
    let registry = c.registry()?;
    let all = Index(vec![other, ours.clone()]);
    registry.put_index(&all, &c.repository("a"), "1");
    let reference = format!("{}/{}:1", registry.host(), c.repository("a"));
    c.pull(&reference).await?;
    same!("the id", status(c, &reference).await?.id, ours.id());
    Ok(())
}

async fn index_without(c: &Context) -> Verdict {
    let registry = c.registry()?;
    let all = Index(vec![small(c)?.for_architecture("s390x"), small(c)?.for_architecture("mips")]);
    registry.put_index(&all, &c.repository("a"), "1");
    let reference = format!("{}/{}:1", registry.host(), c.repository("a"));
    ensure!(c.pull(&reference).await.is_err(), "it is pulled");
    ensure!(c.image_status(&reference).await?.is_none(), "it is on the node");
    Ok(())
}

async fn annotated(c: &Context) -> Verdict {
    let reference = format!("{}:1", c.offer(&small(c)?, "a", "1").await?);
    c.scope.image(&reference);
    let annotations = [("note".to_owned(), "text".to_owned())].into();
    let image = Some(ImageSpec { annotations, ..spec(&reference) });
    c.rpc.pull_image(PullImageRequest { image, ..Default::default() }).await?;
    let filter = Some(ImageFilter { image: Some(spec(&reference)) });
    let found = c.rpc.list_images(ListImagesRequest { filter }).await?.images;
    same!("the number of images", found.len(), 1);
    Ok(())
}

#[derive(Clone, Copy)]
enum Auth {
    Password,
    Word,
    Token,
}

async fn with(c: &Context, mood: Mood, auth: Auth) -> Verdict {
    use base64::Engine as _;
    let image = small(c)?;
    let reference = format!("{}:1", c.offer(&image, "a", "1").await?);
    c.registry()?.be(&c.repository("a"), mood);
    let auth = match auth {
        Auth::Password => AuthConfig {
            username: USER.to_owned(),
            password: PASSWORD.to_owned(),
            server_address: format!("http://{}", c.shared.source.host()),
            ..Default::default()
        },
        Auth::Word => {
            let word = format!("{USER}:{PASSWORD}");
            let auth = base64::engine::general_purpose::STANDARD.encode(word);
            AuthConfig { auth, ..Default::default() }
        }
        Auth::Token => AuthConfig { registry_token: TOKEN.to_owned(), ..Default::default() },
    };
    c.pull_as(&reference, Some(auth)).await?;
    same!("the id", status(c, &reference).await?.id, image.id());
    Ok(())
}

async fn stumbling(c: &Context) -> Verdict {
    let image = small(c)?;
    let reference = format!("{}:1", c.offer(&image, "a", "1").await?);
    c.registry()?.be(&c.repository("a"), Mood::Stumbling(1));
    c.pull(&reference).await?;
    Ok(())
}

async fn shared_layers(c: &Context) -> Verdict {
    let first = small(c)?;
    pulled(c, &first, "a").await?;
    let second = first.clone().unique(&format!("{}-other", c.mark));
    pulled(c, &second, "b").await?;
    let fetched = c.registry()?.fetched(&c.repository("b"));
    // The configuration is another one, and is fetched.
    ensure!(fetched <= 1, "{fetched} blobs were fetched");
    Ok(())
}

async fn second_pull(c: &Context) -> Verdict {
    let image = small(c)?;
    let (reference, _) = pulled(c, &image, "a").await?;
    let before = c.registry()?.fetched(&c.repository("a"));
    c.pull(&reference).await?;
    same!("the number of blobs", c.registry()?.fetched(&c.repository("a")), before);
    Ok(())
}

async fn order(c: &Context) -> Verdict {
    let lower = Layer::new()
        .directory("d", 0o755)
        .file("d/changed", 0o644, b"old\n")
        .file("d/removed", 0o644, b"old\n")
        .file("d/kept", 0o644, b"kept\n");
    let upper = Layer::new().file("d/changed", 0o644, b"new\n").whiteout("d", "removed");
    let script = "cat /d/changed /d/kept; ls /d";
    let said = look(c, vec![lower, upper], Compression::Gzip, script).await?;
    same!("the directory", said, "new\nkept\nchanged\nkept\n");
    Ok(())
}

async fn opaque(c: &Context) -> Verdict {
    let lower = Layer::new().directory("d", 0o755).file("d/old", 0o644, b"");
    let upper = Layer::new()
        .directory("d", 0o755)
        .file("d/.wh..wh..opq", 0o644, b"")
        .file("d/new", 0o644, b"");
    let said = look(c, vec![lower, upper], Compression::Gzip, "ls -A /d").await?;
    same!("the directory", said, "new\n");
    Ok(())
}

async fn attributes(c: &Context) -> Verdict {
    let layer = Layer::new()
        .owned_file("f", 0o4751, (12, 34), b"x")
        .hard_link("g", "f", 0o4751, (12, 34))
        .symlink("l", "nowhere")
        .directory("d", 0o1777);
    let script = "stat -c '%a %u %g %h' /f /g; readlink /l; stat -c '%a' /d";
    let said = look(c, vec![layer], Compression::Gzip, script).await?;
    same!("the attributes", said, "4751 12 34 2\n4751 12 34 2\nnowhere\n1777\n");
    Ok(())
}

async fn escaping(c: &Context) -> Verdict {
    let directory = c.directory()?;
    let outside = directory.join("escaped");
    let up = "../".repeat(20);
    let target = format!("{up}{}", directory.display().to_string().trim_start_matches('/'));
    let layer = Layer::new().symlink("out", &target).file("out/escaped", 0o644, b"x");
    let image = Image::new(vec![layer.build(Compression::Gzip)?]).unique(&c.mark);
    let reference = format!("{}:1", c.offer(&image, "a", "1").await?);
    // Refused, or contained: both are right.
    drop(c.pull(&reference).await);
    ensure!(!outside.exists(), "{} was written", outside.display());
    Ok(())
}
