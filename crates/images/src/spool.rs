//! An archive's files on disk: they come in any order, and what they mean is known at the end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use image_store::tar::{Kind, Reader, TarError};
use image_store::{ImageStore, Scratch};
use model::{Algorithm, Class, Digest};
use oci_image::{Compression, Descriptor, Hasher, LayerEntry, blob_path, layer_entry};

use crate::ImagesError;

/// Files that one archive may have: layers, configurations and manifests of all its images.
const MAX_FILES: usize = 20_000;
const MAX_PATH: usize = 4096;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A file of the archive.
#[derive(Debug, Clone)]
pub(crate) struct Spooled {
    path: PathBuf,
    pub size: u64,
    /// SHA-256 of its bytes; of a blob whose name says SHA-512, that.
    pub digest: Digest,
}

/// The files of an archive by their names in it. They go with this value.
#[derive(Debug)]
pub(crate) struct Spool {
    _scratch: Scratch,
    files: HashMap<String, Spooled>,
    links: HashMap<String, String>,
}

impl Spool {
    /// Reads the whole of `archive`, which may be compressed, into `store`'s scratch space.
    pub fn read(store: &ImageStore, archive: impl Read) -> Result<Self, ImagesError> {
        let scratch = store.scratch()?;
        let mut buffered = BufReader::with_capacity(128 << 10, archive);
        let head = buffered.fill_buf().map_err(ImagesError::Archive)?;
        let reader: Box<dyn Read + '_> = match sniff(head) {
            Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
            Compression::Zstd => {
                Box::new(zstd::Decoder::with_buffer(buffered).map_err(ImagesError::Archive)?)
            }
            Compression::None => Box::new(buffered),
        };
        let mut tar = Reader::new(reader, MAX_PATH);
        let (mut files, mut links) = (HashMap::new(), HashMap::new());
        let mut count = 0;
        while let Some(entry) = tar.next_entry().map_err(of_tar)? {
            count += 1;
            if count > MAX_FILES {
                return Err(ImagesError::Unusable {
                    object: "the archive".to_owned(),
                    problem: format!("it has more than {MAX_FILES} files"),
                    class: Class::ResourceExhausted,
                });
            }
            let Some(name) = clean(&entry.path) else { continue };
            match entry.kind {
                Kind::File => {
                    let path = scratch.path().join(count.to_string());
                    let file = spool(&mut tar, &name, path).map_err(ImagesError::Archive)?;
                    files.insert(name, file);
                }
                // `docker save` of old writes a layer that two images share as a link.
                Kind::Symlink | Kind::HardLink => {
                    let target = if entry.kind == Kind::HardLink {
                        entry.link
                    } else {
                        let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
                        [dir.as_bytes(), b"/", &entry.link].concat()
                    };
                    if let Some(target) = clean(&target) {
                        links.insert(name, target);
                    }
                }
                Kind::Directory | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {}
            }
        }
        Ok(Self { _scratch: scratch, files, links })
    }

    /// The file called `name`, or that the link of this name leads to.
    pub fn file(&self, name: &str) -> Option<&Spooled> {
        let name = name.trim_start_matches("./");
        self.files.get(name).or_else(|| self.files.get(self.links.get(name)?))
    }

    /// The file with the content that `descriptor` describes, wherever it lies.
    ///
    /// # Errors
    /// [`ImagesError::Digest`] if what lies at its place is something else; [`ImagesError::Unusable`]
    /// if it is missing.
    pub fn by_digest(&self, descriptor: &Descriptor) -> Result<&Spooled, ImagesError> {
        if let Some(file) = self.files.values().find(|f| f.digest == descriptor.digest) {
            return Ok(file);
        }
        let path = blob_path(&descriptor.digest);
        match self.file(&path) {
            Some(file) => Err(ImagesError::Digest {
                object: format!("{path} in the archive"),
                expected: descriptor.digest.clone(),
                found: file.digest.clone(),
            }),
            None => Err(ImagesError::Unusable {
                object: "the archive".to_owned(),
                problem: format!("{path} is missing"),
                class: Class::InvalidArgument,
            }),
        }
    }

    /// The bytes of a small file; `None` if there is no such file.
    ///
    /// # Errors
    /// [`ImagesError::Unusable`] past `max` bytes.
    pub fn bytes(&self, name: &str, max: u64) -> Result<Option<Vec<u8>>, ImagesError> {
        let Some(file) = self.file(name) else { return Ok(None) };
        if file.size > max {
            return Err(ImagesError::Unusable {
                object: format!("{name} in the archive"),
                problem: format!("it has {} bytes, at most {max} are read", file.size),
                class: Class::ResourceExhausted,
            });
        }
        std::fs::read(&file.path).map(Some).map_err(ImagesError::Archive)
    }
}

impl Spooled {
    /// Its bytes as a stream.
    pub fn open(&self) -> Result<File, ImagesError> {
        File::open(&self.path).map_err(ImagesError::Archive)
    }

    /// How it is compressed, by its first bytes.
    pub fn compression(&self) -> Result<Compression, ImagesError> {
        let mut head = Vec::with_capacity(4);
        self.open()?.take(4).read_to_end(&mut head).map_err(ImagesError::Archive)?;
        Ok(sniff(&head))
    }
}

fn sniff(head: &[u8]) -> Compression {
    if head.starts_with(&GZIP) {
        Compression::Gzip
    } else if head.starts_with(&ZSTD) {
        Compression::Zstd
    } else {
        Compression::None
    }
}

/// A name as it is compared: no `./`, no `..`, no link is ever made from it.
fn clean(path: &[u8]) -> Option<String> {
    match layer_entry(path) {
        Ok(LayerEntry::Content(path)) => path.to_str().map(str::to_owned),
        Ok(
            LayerEntry::Root
            | LayerEntry::Whiteout(_)
            | LayerEntry::Opaque(_)
            | LayerEntry::Ignored,
        )
        | Err(_) => None,
    }
}

fn spool(from: &mut impl Read, name: &str, path: PathBuf) -> io::Result<Spooled> {
    let algorithm =
        if name.starts_with("blobs/sha512/") { Algorithm::Sha512 } else { Algorithm::Sha256 };
    let mut hasher = Hasher::new(algorithm);
    let mut file = File::create_new(Path::new(&path))?;
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                file.write_all(&buffer[..n])?;
                size += n as u64;
            }
        }
    }
    Ok(Spooled { path, size, digest: hasher.finish() })
}

fn of_tar(error: TarError) -> ImagesError {
    match error {
        TarError::Io(e) => ImagesError::Archive(e),
        TarError::Bad(bad) => ImagesError::Unusable {
            object: "the archive".to_owned(),
            problem: bad.to_string(),
            class: Class::InvalidArgument,
        },
    }
}
