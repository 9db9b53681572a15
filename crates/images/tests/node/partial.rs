//! A layer that breaks off goes on where it stopped, also for the next daemon.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use image_store::Options;
use images::Images;
use model::{Class, Classified as _};
use testkit::{Blob, Compression, Image, Layer};

use crate::support::{Node, SetUp, spec};

/// A registry that sends half of the layer and then only errors, until it is mended.
///
/// It has no signature to give at all: whoever asks for one is told that it is out of service.
pub struct Breaking {
    pub host: String,
    pub is_mended: Arc<AtomicBool>,
    /// What was asked of the layer: the first byte of each request.
    asked: Arc<Mutex<Vec<usize>>>,
}

impl Breaking {
    pub fn start(image: &Image) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let is_mended = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (mended, log, image) = (Arc::clone(&is_mended), Arc::clone(&asked), image.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut answer = Answer { stream, is_mended: &mended, asked: &log };
                // A client that goes away is none of this server's business.
                let _ = answer.serve(&image);
            }
        });
        Self { host, is_mended, asked }
    }
}

struct Answer<'a> {
    stream: TcpStream,
    is_mended: &'a AtomicBool,
    asked: &'a Mutex<Vec<usize>>,
}

impl Answer<'_> {
    fn serve(&mut self, image: &Image) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read(&mut byte)? == 0 || head.len() > 8192 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let (manifest, config, layer) = (image.manifest(), image.config(), &image.layers[0]);
        if head.contains(".sig ") {
            return self.send("503 Service Unavailable", "", 0, b"");
        }
        if head.contains("/manifests/") {
            let length = manifest.bytes.len();
            let kind = &manifest.media_type;
            let digest = &manifest.digest;
            let more = format!("Content-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\n");
            let body = if head.starts_with("head") { &[][..] } else { &manifest.bytes };
            return self.send("200 OK", &more, length, body);
        }
        if head.contains(&config.digest) {
            return self.send("200 OK", "", config.bytes.len(), &config.bytes);
        }
        if head.contains(&layer.digest) {
            return self.layer(&head, layer);
        }
        self.send("404 Not Found", "", 0, b"")
    }

    fn layer(&mut self, head: &str, layer: &Blob) -> std::io::Result<()> {
        let from = head.split("range: bytes=").nth(1).and_then(|r| r.split('-').next());
        let from: usize = from.and_then(|f| f.parse().ok()).unwrap_or(0);
        let total = layer.bytes.len();
        let mut asked = self.asked.lock().unwrap();
        asked.push(from);
        let is_first = asked.len() == 1;
        drop(asked);
        if self.is_mended.load(Ordering::SeqCst) {
            if from == 0 {
                return self.send("200 OK", "", total, &layer.bytes);
            }
            let last = total - 1;
            let range = format!("Content-Range: bytes {from}-{last}/{total}\r\n");
            return self.send("206 Partial Content", &range, total - from, &layer.bytes[from..]);
        }
        if is_first {
            return self.send("200 OK", "", total, &layer.bytes[..total / 2]);
        }
        self.send("503 Service Unavailable", "", 0, b"")
    }

    fn send(
        &mut self,
        status: &str,
        more: &str,
        length: usize,
        body: &[u8],
    ) -> std::io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes())?;
        self.stream.write_all(body)
    }
}

fn noise() -> Image {
    // What does not compress, so that half of the blob is half of the layer.
    let mut state = 1_u64;
    let bytes: Vec<u8> = (0..1 << 20)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    Image::new(vec![Layer::new().file("noise", 0o644, &bytes).build(Compression::Gzip)])
}

fn keeps(partial_from: u64) -> SetUp {
    SetUp { options: Options { partial_from, ..Options::default() }, ..SetUp::default() }
}

async fn pull(images: &Images, server: &Breaking) -> Result<(), Class> {
    let reference = format!("{}/test/app:1", server.host);
    images.pull(&spec(&reference), None).await.map(drop).map_err(|e| e.class())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_daemon_goes_on_where_the_last_one_stopped() {
    let image = noise();
    let server = Breaking::start(&image);
    let node = Node::set_up(None, keeps(1));
    assert_eq!(pull(&node.images, &server).await, Err(Class::Unavailable));
    assert_eq!(node.count("partial"), 1);
    node.assert_tidy();
    let node = node.restart(None, keeps(1));
    server.is_mended.store(true, Ordering::SeqCst);
    server.asked.lock().unwrap().clear();
    pull(&node.images, &server).await.unwrap();
    let half = image.layers[0].bytes.len() / 2;
    assert_eq!(*server.asked.lock().unwrap(), [half]);
    assert_eq!(node.count("partial"), 0);
    assert!(node.images.check(images::Repair::None).await.unwrap().damaged.is_empty());
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_that_is_not_this_blobs_is_found_out() {
    let image = noise();
    let server = Breaking::start(&image);
    let node = Node::set_up(None, keeps(1));
    assert_eq!(pull(&node.images, &server).await, Err(Class::Unavailable));
    // What a power cut may leave: the length is right and the bytes are not.
    let layer = &image.layers[0];
    let name = format!("{}.{}", layer.digest.trim_start_matches("sha256:"), layer.bytes.len());
    let path = node.dir.path().join("store/partial").join(name);
    let half = std::fs::metadata(&path).unwrap().len();
    std::fs::write(&path, vec![0; usize::try_from(half).unwrap()]).unwrap();
    server.is_mended.store(true, Ordering::SeqCst);
    pull(&node.images, &server).await.unwrap();
    assert_eq!(server.asked.lock().unwrap().last(), Some(&0));
    assert_eq!(node.count("partial"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_blobs_leave_no_beginning_and_old_ones_go() {
    let image = noise();
    let server = Breaking::start(&image);
    let node = Node::set_up(None, keeps(1 << 30));
    assert_eq!(pull(&node.images, &server).await, Err(Class::Unavailable));
    assert_eq!(node.count("partial"), 0);
    let server = Breaking::start(&image);
    let node = node.restart(None, keeps(1));
    assert_eq!(pull(&node.images, &server).await, Err(Class::Unavailable));
    node.images.collect().await.unwrap();
    assert_eq!(node.count("partial"), 1, "a fresh one stays");
    let now = SetUp {
        options: Options { keep_partial: std::time::Duration::from_nanos(1), ..Options::default() },
        ..SetUp::default()
    };
    let node = node.restart(None, now);
    node.images.collect().await.unwrap();
    assert_eq!(node.count("partial"), 0);
}
