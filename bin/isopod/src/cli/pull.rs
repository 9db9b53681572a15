//! `isopod pull`.

use std::collections::HashMap;
use std::io::{self, IsTerminal};

use admin_api::v1::{Pull, PullProgressRequest};
use cri_api::v1::{AuthConfig, ImageSpec, PullImageRequest};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::failure::{Doing, Failure, Outcome};
use super::find::hex;
use super::node::Node;
use super::print;
use super::text::short;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A registry's user; the password is asked for in the environment variable ISOPOD_PASSWORD
    #[arg(long, value_name = "USER")]
    creds: Option<String>,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
    /// Names, as you would write them
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Fetches images one after the other.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let auth = credentials(args)?;
    for image in &args.images {
        let id = pull(node, image, auth.clone(), args.quiet).await?;
        print::line(&id)?;
    }
    Ok(0)
}

/// A password on the command line would be in everybody's process list.
fn credentials(args: &Args) -> Result<Option<AuthConfig>, Failure> {
    let Some(user) = &args.creds else { return Ok(None) };
    let Ok(password) = std::env::var("ISOPOD_PASSWORD") else {
        return Err(Failure::new(format!("log in as {user}"), "there is no password")
            .advise("put it in the environment variable ISOPOD_PASSWORD"));
    };
    Ok(Some(AuthConfig { username: user.clone(), password, ..Default::default() }))
}

/// Fetches one image and gives its id; shows progress where stderr is a terminal.
pub async fn pull(
    node: &Node,
    image: &str,
    auth: Option<AuthConfig>,
    quiet: bool,
) -> Result<String, Failure> {
    let spec = ImageSpec { image: image.to_owned(), ..Default::default() };
    let request = PullImageRequest { image: Some(spec), auth, sandbox_config: None };
    let progress = (!quiet && io::stderr().is_terminal())
        .then(|| tokio::spawn(show_progress(node.clone(), image.to_owned())));
    let answer = node.images().pull_image(request).await;
    if let Some(progress) = progress {
        progress.abort();
        // It has been told to end, and it draws nothing once it has.
        let _ = progress.await;
    }
    Ok(answer.doing(format!("pull {image}"))?.into_inner().image_ref)
}

/// Draws a bar for each layer until the pull ends, or the runtime turns out not to tell.
async fn show_progress(node: Node, image: String) {
    let request = PullProgressRequest { reference: image, wait: true };
    let Ok(answer) = node.admin().pull_progress(request).await else { return };
    let mut messages = answer.into_inner();
    let mut bars = Bars::default();
    while let Ok(Some(message)) = messages.message().await {
        message.pulls.iter().for_each(|pull| bars.show(pull));
    }
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    of_layer: HashMap<String, ProgressBar>,
}

impl Bars {
    fn show(&mut self, pull: &Pull) {
        for layer in &pull.layers {
            let bar = self.of_layer.entry(layer.digest.clone()).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new(layer.size).with_style(style()));
                bar.with_prefix(short(hex(&layer.digest)).to_owned())
            });
            bar.set_position(layer.done);
            bar.set_message(if layer.complete { "done" } else { "" });
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        let _ = self.all.clear();
    }
}

fn style() -> ProgressStyle {
    let form = "{prefix} [{bar:32}] {bytes}/{total_bytes} {msg}";
    ProgressStyle::with_template(form)
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
}
