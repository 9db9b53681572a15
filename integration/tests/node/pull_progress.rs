//! What is told of a pull while it runs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cri_api::v1::{ImageSpec, PullImageRequest};
use testkit::{Compression, Layer, Registry, Scheme, Setup, busybox, until};

use crate::around::text;

const PATIENCE: Duration = Duration::from_secs(60);
/// Answers from this size on are held in their middle.
const LARGE: usize = 1 << 20;

/// Passes on what a registry says, but for the second halves of large answers: those wait until it is opened.
struct Gate {
    address: String,
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    fn before(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_open = Arc::new((Mutex::new(false), Condvar::new()));
        let (host, gate) = (registry.host(), Arc::clone(&is_open));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (host, gate) = (host.clone(), Arc::clone(&gate));
                // Whoever goes away early wants no answer.
                std::thread::spawn(move || drop(pass(stream, &host, &gate)));
            }
        });
        Self { address, is_open }
    }

    fn open(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }
}

fn pass(mut client: TcpStream, host: &str, gate: &(Mutex<bool>, Condvar)) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let mut server = TcpStream::connect(host)?;
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            break;
        }
        if !line.to_ascii_lowercase().starts_with("connection:") {
            write!(server, "{line}\r\n")?;
        }
    }
    write!(server, "Connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if answer.len() < LARGE {
        return client.write_all(&answer);
    }
    let (first, second) = answer.split_at(answer.len() / 2);
    client.write_all(first)?;
    let closed = gate.0.lock().unwrap();
    drop(gate.1.wait_while(closed, |is_open| !*is_open).unwrap());
    client.write_all(second)
}

#[tokio::test]
async fn a_pull_that_runs_is_told_layer_by_layer_to_whoever_looks() {
    testkit::isolate_network();
    let registry = Registry::start(Scheme::Http);
    let mut state = 1_u32;
    let noise: Vec<u8> = (0..6 << 20)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    let layer = Layer::new().file("noise", 0o644, &noise).build(Compression::Gzip);
    let (digest, size) = (layer.digest.clone(), layer.bytes.len() as u64);
    registry.push(&busybox(Compression::Gzip).layer(layer), "test/noise:1");
    let gate = Gate::before(&registry);
    let name = registry.reference("test/noise:1");
    let server = format!("server = \"http://{}\"\n", gate.address);
    let daemon = Setup::new().hosts_toml(&registry.host(), &server).start().await;
    let spec = ImageSpec { image: name.clone(), ..ImageSpec::default() };
    let request = PullImageRequest { image: Some(spec), ..PullImageRequest::default() };
    let mut images = daemon.images();
    let pulled = tokio::spawn(async move { images.pull_image(request).await });

    let shown = until("the layer is half here", PATIENCE, async || {
        let done = daemon.cli(&["images", "--pulling", "--output", "json"]).output().unwrap();
        let all: serde_json::Value = serde_json::from_slice(&done.stdout).ok()?;
        let pull = all.as_array()?.iter().find(|pull| pull["reference"] == name.as_str())?;
        let layers = pull["layers"].as_array()?;
        let noise = layers.iter().find(|layer| layer["digest"] == digest.as_str())?.clone();
        (noise["done"].as_u64()? > size / 3).then_some((noise, layers.len()))
    });
    let (noise, layers) = shown.await;
    assert_eq!(
        (noise["size"].as_u64(), &noise["complete"], layers),
        (Some(size), &false.into(), 2)
    );
    assert!(noise["done"].as_u64().unwrap() < size, "{noise}");
    let done = daemon.cli(&["images", "--pulling"]).output().unwrap();
    let line = text(&done.stdout).lines().find(|line| line.contains(&name)).map(str::to_owned);
    assert!(line.is_some_and(|line| line.contains("1/2") || line.contains("0/2")));

    // Somebody else asks for the same on a terminal, and sees the bars of the pull that runs already.
    let own = daemon.cli(&["pull", &name]);
    let words: Vec<_> = std::iter::once(own.get_program()).chain(own.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    let environment = own.get_envs().filter_map(|(name, value)| Some((name, value?)));
    // A terminal of which nothing is known, as a service has it, gets no bars.
    terminal.envs(environment).env("TERM", "linux");
    terminal.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut terminal = terminal.spawn().unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let mut seen = Vec::new();
    let prefix = &digest.trim_start_matches("sha256:")[..12];
    while !text(&seen).contains(prefix) {
        let mut some = [0; 4096];
        let count = screen.read(&mut some).unwrap();
        assert!(count > 0, "no bar was drawn: {}", text(&seen));
        seen.extend_from_slice(&some[..count]);
    }
    gate.open();
    std::io::copy(&mut screen, &mut std::io::sink()).unwrap();
    assert!(terminal.wait().unwrap().success());
    pulled.await.unwrap().unwrap();
    let done = daemon.cli(&["images", "--pulling", "--output", "json"]).output().unwrap();
    assert_eq!(text(&done.stdout).trim(), "[]");
}
