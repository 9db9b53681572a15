//! A blob as a stream that does not end before the blob does.

use std::fmt;

use bytes::Bytes;
use oci_image::Hasher;

use crate::course::Course;
use crate::error::{Cause, RegistryError};
use crate::source::{Source, Wanted};

/// After so many new bytes the tries are counted anew: whoever sends much may break often, and
/// whoever sends a byte for each try is given up.
const PROGRESS: u64 = 1 << 20;

/// The bytes of one blob. Dropping it gives its connections and permits back.
pub struct BlobStream {
    wanted: Wanted,
    course: Course,
    source: Option<Source>,
    /// Set once parts failed: from then on one answer after the other is enough.
    in_one_piece: bool,
    position: u64,
    /// The position at which the tries were last counted anew.
    credited: u64,
    /// `None` where the stream began in the middle.
    hasher: Option<Hasher>,
    /// The hosts that bytes came from.
    hosts: Vec<String>,
    over: bool,
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream")
            .field("reference", &self.wanted.reference)
            .field("digest", &self.wanted.descriptor.digest)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl BlobStream {
    pub(crate) async fn open(
        wanted: Wanted,
        course: Course,
        offset: u64,
    ) -> Result<Self, RegistryError> {
        let mut stream = Self {
            hasher: (offset == 0).then(|| Hasher::like(&wanted.descriptor.digest)),
            wanted,
            course,
            source: None,
            in_one_piece: false,
            position: offset,
            credited: offset,
            hosts: Vec::new(),
            over: false,
        };
        if stream.position < stream.wanted.descriptor.size {
            stream.connect().await?;
        }
        Ok(stream)
    }

    /// The next bytes, never empty; `None` after the last, when size and digest have been checked.
    /// What was read is good only once `None` came.
    ///
    /// # Errors
    /// [`RegistryError`] once every host and every try is used up, and when the content is not what
    /// its descriptor says. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Bytes, RegistryError>> {
        while !self.over {
            if self.position == self.wanted.descriptor.size {
                return self.finish().map(Err);
            }
            let came = match &mut self.source {
                None => match self.connect().await {
                    Ok(()) => continue,
                    Err(e) => {
                        self.over = true;
                        return Some(Err(e));
                    }
                },
                Some(source) => source.next(&self.wanted, self.position).await,
            };
            let taken = match came {
                Ok(Some(chunk)) => self.take(chunk).map_err(Into::into),
                Ok(None) => {
                    let detail = "it ended before the content did".into();
                    Err(Cause::Broken { received: self.position, detail }.into())
                }
                Err(failure) => Err(failure),
            };
            match taken {
                Ok(bytes) => return Some(Ok(bytes)),
                Err(failure) => {
                    self.in_one_piece |= matches!(self.source, Some(Source::Parts(_)));
                    self.source = None;
                    self.course.failed(failure);
                }
            }
        }
        None
    }

    /// Bytes of the blob that have been handed out, the offset that it began at included.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The host that the bytes come from at the moment.
    #[must_use]
    pub fn source(&self) -> &str {
        self.course.host()
    }

    /// Counts and hashes `chunk`.
    fn take(&mut self, chunk: Bytes) -> Result<Bytes, Cause> {
        let end = self.position + chunk.len() as u64;
        let expected = self.wanted.descriptor.size;
        if end > expected {
            let digest = self.wanted.descriptor.digest.clone();
            return Err(Cause::SizeMismatch { digest, expected, found: end });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        self.position = end;
        if end - self.credited >= PROGRESS {
            self.credited = end;
            self.course.progressed();
        }
        Ok(chunk)
    }

    /// The end: connections go back, the digest is checked.
    fn finish(&mut self) -> Option<RegistryError> {
        self.over = true;
        self.source = None;
        let found = self.hasher.take()?.finish();
        let expected = self.wanted.descriptor.digest.clone();
        if found == expected {
            return None;
        }
        for host in self.hosts.drain(..) {
            self.wanted.inner.suspect(host, expected.clone());
        }
        Some(self.course.error_of(Cause::DigestMismatch { expected, found }))
    }

    async fn connect(&mut self) -> Result<(), RegistryError> {
        while let Some(endpoint) = self.course.next().await {
            match self.wanted.open(&endpoint, self.position, self.in_one_piece).await {
                Ok(source) => {
                    if !self.hosts.contains(&endpoint.host) {
                        self.hosts.push(endpoint.host.clone());
                    }
                    self.course.gave();
                    self.source = Some(source);
                    return Ok(());
                }
                Err(failure) => self.course.failed(failure),
            }
        }
        Err(self.course.error())
    }
}
