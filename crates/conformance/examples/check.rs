//! The suite as a program of its own:
//! `cargo run -p conformance --example check -- /run/x.sock report.json [PATTERN…]`.

use conformance::{Form, Options, Suite};
use tonic::transport::Endpoint;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let socket = args.next().ok_or("which socket?")?;
    let path = args.next().ok_or("where does the report go?")?;
    let channel = Endpoint::try_from(format!("unix://{socket}"))?.connect().await?;
    let options = Options { patterns: args.collect(), ..Options::default() };
    let suite = Suite::prepare(channel, options).await?;
    let report = suite
        .run(|result| println!("{:<7} {} {}", result.outcome.name(), result.name, result.why))
        .await;
    suite.finish().await?;
    std::fs::write(path, report.print(Form::Json))?;
    println!("{}", report.print(Form::Text));
    Ok(())
}
