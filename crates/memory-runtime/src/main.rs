//! The runtime in memory as a program.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use memory_runtime::{Fault, MemoryRuntime, Script};
use tokio_util::sync::CancellationToken;

/// A CRI runtime in memory: no container is real, and every call is answered
#[derive(Debug, Parser)]
#[command(name = "memory-runtime", version)]
struct Args {
    /// Where it listens; what is there already is replaced
    #[arg(long, value_name = "PATH", default_value = "/run/memory-runtime.sock")]
    socket: PathBuf,
    /// Latencies and failures, as TOML
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Something that is to be done wrong; may be given again
    #[arg(long, value_name = "NAME")]
    fault: Vec<String>,
    /// List the faults
    #[arg(long)]
    faults: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memory-runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    if args.faults {
        for fault in Fault::ALL {
            println!("{:<26} {}", fault.name(), fault.what());
        }
        return Ok(());
    }
    let script = match &args.script {
        Some(path) => Script::parse(&std::fs::read_to_string(path)?)?,
        None => Script::default(),
    };
    let runtime = MemoryRuntime::new(script);
    for name in &args.fault {
        let fault = Fault::ALL.iter().find(|fault| fault.name() == name);
        runtime.faults().on(*fault.ok_or_else(|| format!("there is no fault {name:?}"))?);
    }
    match std::fs::remove_file(&args.socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        // Where signals cannot be heard it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_ok() {
            asked.cancel();
        }
    });
    println!("serves on {}", args.socket.display());
    runtime.serve(&args.socket, stop).await?;
    Ok(())
}
