//! Pulls, beside the shell's best and containerd, turn by turn.
//!
//! Every turn begins without the image; the registry is on loopback, its files in the page cache. What each
//! does before it calls a layer done differs: Isopod has the files on the disk by then, the others have not.
//! All three write to the file system of the daemon's directory, which `cargo xtask bench` makes for the run.

mod containerd;
mod memory;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::{ImageSpec, PullImageRequest, RemoveImageRequest};
use fastrand::Rng;
use testkit::{Blob, Compression, Daemon, Image, Layer, Network, Registry, Scheme, Setup};
use tonic::transport::Channel;

use crate::samples::{Samples, line};
use containerd::Containerd;

const ROUNDS: usize = 5;
const MIB: usize = 1 << 20;
/// At most so much of containerd's time: for bytes, and for small files.
const OF_CONTAINERDS: [f64; 2] = [0.6, 0.5];
/// At most so much of the shell's.
const OF_THE_SHELLS: f64 = 1.3;

/// Bytes that gzip halves, as it does with programs.
fn bytes(random: &mut Rng, length: usize) -> Vec<u8> {
    let words = std::iter::repeat_with(|| random.u64(..) & 0x0f0f_0f0f_0f0f_0f0f);
    words.take(length.div_ceil(8)).flat_map(u64::to_le_bytes).take(length).collect()
}

/// A layer of `size` bytes in gzip, more or less, in files of a mebibyte.
fn layer(random: &mut Rng, name: &str, size: usize) -> Blob {
    let files = (size * 2).div_ceil(MIB);
    let layer = Layer::new().directory(name, 0o755);
    let add = |layer: Layer, i| layer.file(&format!("{name}/{i}"), 0o644, &bytes(random, MIB));
    (0..files).fold(layer, add).build(Compression::Gzip)
}

fn large(random: &mut Rng) -> Image {
    Image::new((0..8).map(|i| layer(random, &format!("d{i}"), 25 * MIB)).collect())
}

fn small_files(random: &mut Rng) -> Image {
    let mut layer = Layer::new();
    for directory in 0..1000 {
        layer = layer.directory(&format!("d{directory}"), 0o755);
        for file in 0..100 {
            layer = layer.file(&format!("d{directory}/f{file}"), 0o644, &bytes(random, 120));
        }
    }
    Image::new(vec![layer.build(Compression::Gzip)])
}

/// What is pulled by all three.
struct Work {
    what: &'static str,
    name: &'static str,
    image: Image,
    rounds: usize,
    of_containerds: f64,
    of_the_shells: Option<f64>,
}

/// Measures all of it. `programs` is where containerd is, if somewhere but in `PATH`.
pub async fn measure(programs: Option<&Path>) {
    let registry = Registry::start(Scheme::Http);
    let random = &mut Rng::with_seed(0x2545_f491_4f6c_dd1d);
    let setup = Setup::new().registry(&registry).network(Network::None);
    let daemon = setup.state_in_memory().start().await;
    let containerd = Containerd::start(&daemon, programs, &registry).await;
    for work in [
        Work {
            what: "200 MB in 8 gzip layers",
            name: "bench/large:1",
            image: large(random),
            rounds: ROUNDS,
            of_containerds: OF_CONTAINERDS[0],
            of_the_shells: Some(OF_THE_SHELLS),
        },
        Work {
            what: "100,000 small files",
            name: "bench/small:1",
            image: small_files(random),
            rounds: 3,
            of_containerds: OF_CONTAINERDS[1],
            of_the_shells: None,
        },
    ] {
        registry.push(&work.image, work.name);
        compare(&daemon, containerd.as_ref(), &registry, &work).await;
    }
    again(&daemon, &registry.reference("bench/large:1")).await;
    at_once(&daemon, &registry, random).await;
    memory::measure(&daemon, &registry, random).await;
    drop((daemon, containerd));
}

async fn compare(
    daemon: &Daemon,
    containerd: Option<&Containerd>,
    registry: &Registry,
    work: &Work,
) {
    let reference = registry.reference(work.name);
    let (mut ours, mut shells, mut theirs) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut cpu = Samples::default();
    for _ in 0..work.rounds {
        fresh(daemon, &reference);
        let spent = processor_time(daemon.pid());
        ours.add(pull(&mut daemon.images(), &reference).await);
        cpu.add(processor_time(daemon.pid()).saturating_sub(spent));
        shells.add(by_shell(&daemon.directory().join("shell"), registry, &work.image, work.name));
        if let Some(containerd) = containerd {
            let mut images = containerd.images(daemon);
            let request = ImageSpec { image: reference.clone(), ..ImageSpec::default() };
            let request = RemoveImageRequest { image: Some(request) };
            // What it does not do is said, and ours is measured all the same.
            let removed = images.remove_image(request).await.map(drop);
            match removed.and(try_pull(&mut images, &reference).await) {
                Ok(took) => theirs.add(took),
                Err(status) => eprintln!("containerd: {}", status.message()),
            }
        }
        // What was written for one is not brought to the disk in another's turn.
        rustix::fs::sync();
    }
    ours.print(&format!("pull of {}", work.what), None);
    cpu.print("  processor time of the daemon for it", None);
    shells.print("  curl, gzip -d and tar, all layers at once", None);
    if let Some(most) = work.of_the_shells {
        share(&ours, &shells, "the shell's", most);
    }
    match containerd {
        Some(_) => {
            theirs.print("  containerd, by the same call", None);
            share(&ours, &theirs, "containerd's", work.of_containerds);
        }
        None => line("  containerd", "cannot be started here", None),
    }
}

/// How much of another's time ours is.
fn share(ours: &Samples, theirs: &Samples, whose: &str, most: f64) {
    if theirs.median().is_zero() {
        // None of them succeeded.
        return;
    }
    let share = ours.median().as_secs_f64() / theirs.median().as_secs_f64();
    let verdict = if share <= most { "kept" } else { "BROKEN" };
    let promise = format!("promised {most} at most: {verdict}");
    line(&format!("  of {whose} time"), &format!("{share:.2}"), Some(promise));
}

/// Without the image, and without what is kept of it.
fn fresh(daemon: &Daemon, reference: &str) {
    for args in [&["rmi", reference][..], &["image", "prune"]] {
        // The first time, it is not there.
        let _ = daemon.cli(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

async fn pull(images: &mut ImageServiceClient<Channel>, reference: &str) -> Duration {
    try_pull(images, reference).await.expect("the image is pulled")
}

async fn try_pull(
    images: &mut ImageServiceClient<Channel>,
    reference: &str,
) -> Result<Duration, tonic::Status> {
    let spec = ImageSpec { image: reference.to_owned(), ..ImageSpec::default() };
    let request = PullImageRequest { image: Some(spec), auth: None, sandbox_config: None };
    let began = Instant::now();
    images.pull_image(request).await?;
    Ok(began.elapsed())
}

/// The same bytes into directories, by the programs that everybody has.
fn by_shell(place: &Path, registry: &Registry, image: &Image, name: &str) -> Duration {
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
    std::fs::remove_dir_all(place).expect("the directory can be removed");
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
async fn at_once(daemon: &Daemon, registry: &Registry, random: &mut Rng) {
    let mut references = Vec::new();
    for i in 0..8 {
        let name = format!("bench/one-{i}:1");
        registry.push(&Image::new(vec![layer(random, "d", 12 * MIB)]), &name);
        references.push(registry.reference(&name));
    }
    let (mut single, mut all) = (Samples::default(), Samples::default());
    for _ in 0..3 {
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

/// User and system time that a process has taken.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a daemon that runs");
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after.split(' ').skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every architecture that Linux tells user space about.
    Duration::from_millis(ticks * 10)
}
