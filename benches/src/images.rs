//! Pulls, beside the shell's best and, where it is installed, containerd, turn by turn.
//!
//! Every turn begins without the image; the registry is on loopback, its files in the page cache. What each
//! does before it calls a layer done differs: Isopod has the files on the disk by then, the others have not.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::{ImageSpec, PullImageRequest, RemoveImageRequest};
use testkit::{Blob, Compression, Daemon, Image, Layer, Network, Registry, Scheme, Setup};
use tonic::transport::Channel;

use crate::samples::{Samples, line};

const ROUNDS: usize = 5;
const MIB: usize = 1 << 20;

/// Numbers without a pattern (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Bytes that gzip halves, as it does with programs.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8))
            .flat_map(|_| (self.next() & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes())
            .take(length)
            .collect()
    }
}

/// A layer of `size` bytes in gzip, more or less, in files of a mebibyte.
fn layer(random: &mut Random, name: &str, size: usize) -> Blob {
    let files = (size * 2).div_ceil(MIB);
    let layer = Layer::new().directory(name, 0o755);
    let add = |layer: Layer, i| layer.file(&format!("{name}/{i}"), 0o644, &random.bytes(MIB));
    (0..files).fold(layer, add).build(Compression::Gzip)
}

fn large(random: &mut Random) -> Image {
    Image::new((0..8).map(|i| layer(random, &format!("d{i}"), 25 * MIB)).collect())
}

fn small_files(random: &mut Random) -> Image {
    let mut layer = Layer::new();
    for directory in 0..1000 {
        layer = layer.directory(&format!("d{directory}"), 0o755);
        for file in 0..100 {
            layer = layer.file(&format!("d{directory}/f{file}"), 0o644, &random.bytes(120));
        }
    }
    Image::new(vec![layer.build(Compression::Gzip)])
}

pub async fn measure() {
    let registry = Registry::start(Scheme::Http);
    let random = &mut Random(0x2545_f491_4f6c_dd1d);
    let daemon = Setup::new().registry(&registry).network(Network::None).start().await;
    let containerd = Containerd::start(&daemon, &registry).await;
    for (what, name, image) in [
        ("200 MB in 8 gzip layers", "bench/large:1", large(random)),
        ("100,000 small files", "bench/small:1", small_files(random)),
    ] {
        registry.push(&image, name);
        compare(&daemon, containerd.as_ref(), &registry, &image, (what, name)).await;
    }
    again(&daemon, &registry.reference("bench/large:1")).await;
    at_once(&daemon, &registry, random).await;
}

async fn compare(
    daemon: &Daemon,
    containerd: Option<&Containerd>,
    registry: &Registry,
    image: &Image,
    (what, name): (&str, &str),
) {
    let reference = registry.reference(name);
    let (mut ours, mut shells, mut theirs) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut cpu = Samples::default();
    let before = resident(daemon.pid(), "VmRSS:");
    let mut most = 0;
    for _ in 0..ROUNDS {
        fresh(daemon, &reference);
        let spent = processor_time(daemon.pid());
        // What is measured from here on is the most from here on.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", daemon.pid()), "5");
        ours.add(pull(&mut daemon.images(), &reference).await);
        cpu.add(processor_time(daemon.pid()).saturating_sub(spent));
        most = most.max(resident(daemon.pid(), "VmHWM:"));
        shells.add(by_shell(daemon.directory(), registry, image, name));
        if let Some(containerd) = containerd {
            let mut images = containerd.images(daemon);
            let request = ImageSpec { image: reference.clone(), ..ImageSpec::default() };
            let request = RemoveImageRequest { image: Some(request) };
            images.remove_image(request).await.expect("an image can be removed");
            theirs.add(pull(&mut images, &reference).await);
        }
    }
    ours.print(&format!("pull of {what}"), None);
    cpu.print("  processor time of the daemon for it", None);
    let more = most.saturating_sub(before);
    line(
        "  the daemon's memory above that at rest",
        &format!("{:.1} MB", more as f64 / 1000.0),
        None,
    );
    shells.print("  curl, gzip -d and tar, all layers at once", None);
    match containerd {
        Some(_) => theirs.print("  containerd, by the same call", None),
        None => line("  containerd", "is not installed (apt-get install containerd)", None),
    }
}

/// Without the image, and without what is kept of it.
fn fresh(daemon: &Daemon, reference: &str) {
    for args in [&["rmi", reference][..], &["image", "prune"]] {
        // The first time, it is not there.
        let _ = daemon.cli(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

async fn pull(images: &mut ImageServiceClient<Channel>, reference: &str) -> Duration {
    let spec = ImageSpec { image: reference.to_owned(), ..ImageSpec::default() };
    let request = PullImageRequest { image: Some(spec), auth: None, sandbox_config: None };
    let began = Instant::now();
    images.pull_image(request).await.expect("the image is pulled");
    began.elapsed()
}

/// The same bytes into directories, by the programs that everybody has.
fn by_shell(directory: &Path, registry: &Registry, image: &Image, name: &str) -> Duration {
    let place = directory.join("shell");
    let (repository, _) = name.split_once(':').expect("a name with a tag");
    let fetch = |(i, layer): (usize, &Blob)| {
        let url = format!("http://{}/v2/{repository}/blobs/{}", registry.host(), layer.digest);
        let to = place.join(i.to_string());
        std::fs::create_dir_all(&to).expect("a directory can be made");
        let script = format!("curl -sf '{url}' | gzip -d | tar -x -C '{}'", to.display());
        Command::new("sh").args(["-c", &script]).spawn().expect("a shell")
    };
    let began = Instant::now();
    let children: Vec<Child> = image.layers.iter().enumerate().map(fetch).collect();
    for mut child in children {
        assert!(child.wait().expect("it is ours").success(), "the shell failed");
    }
    let took = began.elapsed();
    std::fs::remove_dir_all(&place).expect("the directory can be removed");
    took
}

async fn again(daemon: &Daemon, reference: &str) {
    let mut samples = Samples::default();
    for _ in 0..20 {
        samples.add(pull(&mut daemon.images(), reference).await);
    }
    samples.print("pull of an image that is here", Some(20.0));
}

/// Eight images at once, beside one after the other.
async fn at_once(daemon: &Daemon, registry: &Registry, random: &mut Random) {
    let mut references = Vec::new();
    for i in 0..8 {
        let name = format!("bench/one-{i}:1");
        registry.push(&Image::new(vec![layer(random, "d", 12 * MIB)]), &name);
        references.push(registry.reference(&name));
    }
    let (mut single, mut all) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        references.iter().for_each(|r| fresh(daemon, r));
        let mut sum = Duration::ZERO;
        for reference in &references {
            sum += pull(&mut daemon.images(), reference).await;
        }
        single.add(sum);
        references.iter().for_each(|r| fresh(daemon, r));
        let began = Instant::now();
        let mut tasks = Vec::new();
        for reference in references.clone() {
            let mut images = daemon.images();
            tasks.push(tokio::spawn(async move { pull(&mut images, &reference).await }));
        }
        for task in tasks {
            task.await.expect("a pull ends");
        }
        all.add(began.elapsed());
    }
    single.print("8 images of 12 MB, one after the other", None);
    all.print("  all at once", None);
}

/// A figure of /proc/PID/status, in kilobytes.
fn resident(pid: u32, what: &str) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a daemon that runs");
    let found = status.lines().find_map(|l| l.strip_prefix(what));
    found.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and system time that a process has taken.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a daemon that runs");
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every architecture that Linux tells user space about.
    Duration::from_millis(ticks * 10)
}

/// A containerd of our own, with its defaults.
struct Containerd {
    process: Child,
    socket: PathBuf,
}

impl Containerd {
    /// `None` where it is not installed.
    async fn start(daemon: &Daemon, registry: &Registry) -> Option<Self> {
        let at = daemon.directory().join("containerd");
        let hosts = at.join("certs.d").join(registry.host());
        std::fs::create_dir_all(&hosts).expect("a directory can be made");
        std::fs::write(hosts.join("hosts.toml"), registry.hosts_toml())
            .expect("a file can be written");
        let socket = at.join("containerd.sock");
        let certs = at.join("certs.d");
        // The form of containerd 1.x, which 2.x reads too.
        let config = format!(
            "version = 2\nroot = '{0}/root'\nstate = '{0}/state'\n[grpc]\naddress = '{1}'\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '{2}'\n",
            at.display(),
            socket.display(),
            certs.display(),
        );
        std::fs::write(at.join("config.toml"), config).expect("a file can be written");
        let process = Command::new("containerd")
            .arg("--config")
            .arg(at.join("config.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let this = Self { process, socket };
        let began = Instant::now();
        loop {
            let request = cri_api::v1::ImageFsInfoRequest {};
            if this.images(daemon).image_fs_info(request).await.is_ok() {
                return Some(this);
            }
            assert!(began.elapsed() < Duration::from_secs(30), "containerd does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn images(&self, daemon: &Daemon) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(daemon.channel_at(&self.socket))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
