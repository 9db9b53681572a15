//! Reading a log as it grows, through rotation and truncation.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::decode::{BadRecord, Records};
use crate::record::Record;

/// Bytes that one step reads at most.
const BLOCK: usize = 64 << 10;
/// A line that is longer than this is no record; it is given up rather than kept in memory.
const MAX_LINE: usize = 1 << 20;

/// Whether there may be more to read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Call again.
    More,
    /// All that there is was read: wait until something changes ([`crate::Watch`]).
    Idle,
}

/// Follows the log at a path: to its end, as it grows, on to the file that takes its place when it
/// is rotated, and from the start again when it is truncated.
///
/// A rotated file is read to its end before the new one is begun, so no record is missed as long
/// as the writer does not go on with the old file after the new one is there.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    open: Option<Open>,
    /// The beginning of a record whose end is still to come.
    rest: Vec<u8>,
    buffer: Vec<u8>,
}

/// The file that is being read.
#[derive(Debug)]
struct Open {
    file: File,
    identity: Identity,
    offset: u64,
    place: Place,
}

/// Whether the path still leads to the file that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// As far as is known.
    Current,
    /// Another file is there. What was written before that was seen is still to be read.
    Replaced,
}

/// Names a file, for as long as somebody has it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What to do at the end of a file.
#[derive(Debug, PartialEq, Eq)]
enum AtEnd {
    /// Nothing yet.
    Wait,
    /// Read to the end once more, then leave it.
    Leave,
    /// Read it from the start.
    StartOver,
}

/// The decision at the end of a file: `offset` bytes were read of the file `open`, which has `size`
/// bytes now; `at_path` is what the path leads to now.
fn at_end(open: Identity, offset: u64, size: u64, at_path: Option<Identity>) -> AtEnd {
    match at_path {
        Some(other) if other != open => AtEnd::Leave,
        Some(_) | None if size < offset => AtEnd::StartOver,
        // Between the renaming and the new file there is nothing at the path.
        Some(_) | None => AtEnd::Wait,
    }
}

impl Follower {
    /// Follows the log at `path`, which need not be there yet, from its first record on.
    ///
    /// # Errors
    /// Those of opening it, other than that it is not there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let open = open_at(path)?;
        Ok(Self { path: path.to_owned(), open, rest: Vec::new(), buffer: vec![0; BLOCK] })
    }

    /// Goes on at `offset` of the file that is open now: the beginning of a record, as
    /// [`crate::tail`] and [`crate::since`] find it in [`Self::file`].
    pub fn skip_to(&mut self, offset: u64) {
        self.rest.clear();
        if let Some(open) = &mut self.open {
            open.offset = offset;
        }
    }

    /// The file that is being read; `None` until there is one.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        self.open.as_ref().map(|open| &open.file)
    }

    /// Reads up to 64 KiB and hands each record in it to `each`, and each line that is not one as an
    /// error. At the end of the file it looks whether the path leads to another one. Never waits.
    ///
    /// # Errors
    /// Those of reading and opening; the next step tries again where this one failed.
    pub fn step(
        &mut self,
        each: &mut dyn FnMut(Result<Record<'_>, BadRecord>),
    ) -> io::Result<Step> {
        let Some(open) = &mut self.open else {
            self.open = open_at(&self.path)?;
            return Ok(if self.open.is_some() { Step::More } else { Step::Idle });
        };
        let count = open.file.read_at(&mut self.buffer, open.offset)?;
        if count > 0 {
            open.offset += count as u64;
            take(&mut self.rest, &self.buffer[..count], each);
            return Ok(Step::More);
        }
        match open.place {
            Place::Replaced => self.leave(each),
            Place::Current => self.look(each),
        }
    }

    /// Hands over what is left of a record that never ended; for the caller that stops following.
    pub fn finish(&mut self, each: &mut dyn FnMut(Result<Record<'_>, BadRecord>)) {
        let bytes = std::mem::take(&mut self.rest).len();
        if bytes > 0 {
            each(Err(BadRecord::Unfinished { bytes }));
        }
    }

    /// At the end of the file: whether it is still the one to read.
    fn look(&mut self, each: &mut dyn FnMut(Result<Record<'_>, BadRecord>)) -> io::Result<Step> {
        let Some(open) = &mut self.open else { return Ok(Step::Idle) };
        let at_path = found(std::fs::metadata(&self.path))?.map(|m| Identity::of(&m));
        match at_end(open.identity, open.offset, open.file.metadata()?.len(), at_path) {
            AtEnd::Wait => return Ok(Step::Idle),
            AtEnd::Leave => open.place = Place::Replaced,
            AtEnd::StartOver => {
                open.offset = 0;
                self.finish(each);
            }
        }
        Ok(Step::More)
    }

    /// Goes on with the file that the path leads to now.
    fn leave(&mut self, each: &mut dyn FnMut(Result<Record<'_>, BadRecord>)) -> io::Result<Step> {
        // While the path leads nowhere (rotated again), the old file is kept, at its end.
        let Some(next) = open_at(&self.path)? else { return Ok(Step::Idle) };
        self.open = Some(next);
        self.finish(each);
        Ok(Step::More)
    }
}

fn open_at(path: &Path) -> io::Result<Option<Open>> {
    let Some(file) = found(File::open(path))? else { return Ok(None) };
    let identity = Identity::of(&file.metadata()?);
    Ok(Some(Open { file, identity, offset: 0, place: Place::Current }))
}

/// `None` where what was looked for is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Hands over the records in `rest` and `block`; leaves in `rest` the beginning of the next one.
fn take(rest: &mut Vec<u8>, block: &[u8], each: &mut dyn FnMut(Result<Record<'_>, BadRecord>)) {
    let mut block = block;
    if !rest.is_empty() {
        let end = memchr::memchr(b'\n', block).map_or(block.len(), |at| at + 1);
        rest.extend_from_slice(&block[..end]);
        block = &block[end..];
        let mut records = Records::new(rest);
        records.by_ref().for_each(&mut *each);
        if !records.rest().is_empty() && rest.len() <= MAX_LINE {
            return; // The block ended before the record did.
        }
        if !records.rest().is_empty() {
            each(Err(BadRecord::Unfinished { bytes: rest.len() }));
        }
        rest.clear();
    }
    let mut records = Records::new(block);
    records.by_ref().for_each(&mut *each);
    rest.extend_from_slice(records.rest());
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    const A: Identity = Identity { device: 1, inode: 1 };
    const B: Identity = Identity { device: 1, inode: 2 };

    #[test]
    fn at_the_end_it_waits_leaves_or_starts_over() {
        for (offset, size, at_path, decision) in [
            (10, 10, Some(A), AtEnd::Wait),
            (10, 20, Some(A), AtEnd::Wait),
            (10, 10, None, AtEnd::Wait),
            (10, 10, Some(B), AtEnd::Leave),
            (10, 5, Some(B), AtEnd::Leave),
            (10, 5, Some(A), AtEnd::StartOver),
            (10, 0, None, AtEnd::StartOver),
        ] {
            assert_eq!(at_end(A, offset, size, at_path), decision);
        }
    }

    /// A log and what was read of it.
    struct Story {
        directory: tempfile::TempDir,
        follower: Follower,
        read: Vec<String>,
    }

    impl Story {
        fn begin() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let follower = Follower::open(&directory.path().join("0.log")).unwrap();
            Self { directory, follower, read: Vec::new() }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("0.log")
        }

        fn write(&self, path: &Path, text: &str) {
            let mut file = File::options().append(true).create(true).open(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }

        fn say(&self, text: &str) {
            self.write(&self.path(), &format!("2016-10-06T00:17:09Z stdout F {text}\n"));
        }

        /// Reads all that there is, and forgets it.
        fn reads(&mut self) -> Vec<String> {
            let read = &mut self.read;
            let mut each = |record: Result<Record<'_>, BadRecord>| {
                read.push(record.map_or_else(
                    |bad| bad.to_string(),
                    |r| String::from_utf8_lossy(r.content).into_owned(),
                ));
            };
            while self.follower.step(&mut each).unwrap() == Step::More {}
            std::mem::take(&mut self.read)
        }
    }

    #[test]
    fn a_log_that_comes_later_and_grows_is_read_as_it_grows() {
        let mut story = Story::begin();
        assert!(story.reads().is_empty());
        story.say("one");
        assert_eq!(story.reads(), ["one"]);
        assert!(story.reads().is_empty());
        story.write(&story.path(), "2016-10-06T00:17:09Z std");
        assert!(story.reads().is_empty());
        story.write(&story.path(), "out F two\n");
        assert_eq!(story.reads(), ["two"]);
    }

    #[test]
    fn a_rotated_log_is_read_to_its_end_and_then_the_new_one() {
        let mut story = Story::begin();
        story.say("one");
        assert_eq!(story.reads(), ["one"]);
        let old = story.directory.path().join("0.log.20161006");
        fs::rename(story.path(), &old).unwrap();
        story.write(&old, "2016-10-06T00:17:09Z stdout F two\n");
        assert_eq!(story.reads(), ["two"]);
        story.write(&old, "2016-10-06T00:17:09Z stdout F three\n");
        story.say("four");
        assert_eq!(story.reads(), ["three", "four"]);
        fs::remove_file(&old).unwrap();
        story.say("five");
        assert_eq!(story.reads(), ["five"]);
    }

    #[test]
    fn a_log_that_was_rotated_twice_while_nobody_looked_goes_on_with_the_newest() {
        let mut story = Story::begin();
        story.say("one");
        fs::rename(story.path(), story.directory.path().join("a")).unwrap();
        story.say("two");
        assert_eq!(story.reads(), ["two"]);
        fs::rename(story.path(), story.directory.path().join("b")).unwrap();
        story.say("three");
        fs::rename(story.path(), story.directory.path().join("c")).unwrap();
        story.say("four");
        assert_eq!(story.reads(), ["four"]);
    }

    #[test]
    fn a_truncated_log_is_read_from_its_start() {
        let mut story = Story::begin();
        story.say("one");
        story.write(&story.path(), "half a record");
        assert_eq!(story.reads(), ["one"]);
        File::options().write(true).open(story.path()).unwrap().set_len(0).unwrap();
        story.say("two");
        assert_eq!(
            story.reads(),
            ["the log ends in the middle of a record, after 13 bytes of it", "two"]
        );
    }

    #[test]
    fn a_line_without_end_does_not_take_all_memory() {
        let mut story = Story::begin();
        story.write(&story.path(), &"x".repeat(2 * MAX_LINE + 100));
        story.write(&story.path(), "\n");
        story.say("after");
        let read = story.reads();
        assert_eq!(read.last().map(String::as_str), Some("after"));
        assert!(story.follower.rest.capacity() <= 2 * MAX_LINE + BLOCK);
    }

    #[test]
    fn it_can_begin_in_the_middle() {
        let mut story = Story::begin();
        for word in ["one", "two", "three"] {
            story.say(word);
        }
        let mut follower = Follower::open(&story.path()).unwrap();
        let file = follower.file().unwrap();
        let offset = crate::tail(file, file.metadata().unwrap().len(), 2).unwrap();
        follower.skip_to(offset);
        story.follower = follower;
        assert_eq!(story.reads(), ["two", "three"]);
    }
}
