//! `isopod push`.

use admin_api::v1::PushImageRequest;

use super::failure::{Doing, Outcome};
use super::node::Node;
use super::print;
use super::pull;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A registry's user; the password is asked for in the environment variable ISOPOD_PASSWORD
    #[arg(long, value_name = "USER")]
    creds: Option<String>,
    /// A name, an id, or the beginning of one
    image: String,
    /// The name that it is to have at its registry; the image's own where it is left out
    name: Option<String>,
}

/// Sends the image, and prints the name by digest that it has there.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let auth = pull::credentials(args.creds.as_deref())?.unwrap_or_default();
    let request = PushImageRequest {
        image: args.image.clone(),
        name: args.name.clone().unwrap_or_default(),
        username: auth.username,
        password: auth.password,
    };
    let doing = format!("push {}", args.name.as_ref().unwrap_or(&args.image));
    let answer = node.admin().push_image(request).await.doing(doing)?.into_inner();
    print::line(&format!("{}@{}", answer.name, answer.digest))?;
    Ok(0)
}
