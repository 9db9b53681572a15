//! `isopod pull`.

use std::collections::HashMap;
use std::io::{self, IsTerminal};

use admin_api::v1::{Pull, PullProgressRequest};
use cri_api::v1::{AuthConfig, ImageSpec, PullImageRequest};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::failure::{Doing, Failure, Outcome};
use super::find::hex;
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{bytes, short};

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
    let auth = credentials(args.creds.as_deref())?;
    for image in &args.images {
        let id = pull(node, image, auth.clone(), args.quiet).await?;
        print::line(&id)?;
    }
    Ok(0)
}

/// A password on the command line would be in everybody's process list.
pub fn credentials(user: Option<&str>) -> Result<Option<AuthConfig>, Failure> {
    let Some(user) = user else { return Ok(None) };
    let Ok(password) = std::env::var("ISOPOD_PASSWORD") else {
        return Err(Failure::new(format!("log in as {user}"), "there is no password")
            .advise("put it in the environment variable ISOPOD_PASSWORD"));
    };
    Ok(Some(AuthConfig { username: user.to_owned(), password, ..Default::default() }))
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

/// Shows the pulls that run now, of whomever: bars until they end on a terminal, else once.
pub async fn running(node: &Node, form: Form) -> Outcome {
    let request = PullProgressRequest { reference: String::new(), wait: false };
    let answer = node.admin().pull_progress(request).await.doing("watch the pulls that run")?;
    let mut messages = answer.into_inner();
    let is_live = form == Form::Table && io::stderr().is_terminal();
    let mut bars = Bars::default();
    let mut last = Vec::new();
    while let Some(message) = messages.message().await.doing("watch the pulls that run")? {
        last = message.pulls;
        if !is_live {
            break;
        }
        last.iter().for_each(|pull| bars.show(pull));
    }
    match form {
        Form::Table if is_live => {}
        Form::Table => {
            let mut rows = Rows::new(&["IMAGE", "PHASE", "LAYERS", "DONE", "SIZE"]);
            last.iter().for_each(|pull| rows.add(row(pull)));
            rows.print()?;
        }
        Form::Json | Form::Yaml => {
            print::value(&last.iter().map(json_of).collect(), form)?;
        }
    }
    Ok(0)
}

fn row(pull: &Pull) -> [String; 5] {
    let complete = pull.layers.iter().filter(|layer| layer.complete).count();
    [
        pull.reference.clone(),
        pull.phase.clone(),
        format!("{complete}/{}", pull.layers.len()),
        bytes(pull.layers.iter().map(|layer| layer.done).sum()),
        bytes(pull.layers.iter().map(|layer| layer.size).sum()),
    ]
}

fn json_of(pull: &Pull) -> Value {
    let layers: Vec<Value> = pull
        .layers
        .iter()
        .map(|l| json!({ "digest": l.digest, "size": l.size, "done": l.done, "complete": l.complete }))
        .collect();
    json!({ "reference": pull.reference, "phase": pull.phase, "layers": layers })
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
