//! Output that has left a FIFO and is not in the log yet, kept where the death of the shim does not lose it.
//!
//! A FIFO forgets what was read. So its bytes are first *spliced* into a file of the run directory: the kernel moves them
//! in one system call, and a killed process finishes the call it is in, so each byte is either still in the FIFO or already
//! in the file. From there they become records:
//!
//! 1. splice: the file grows;
//! 2. records are appended to the log, each with the next sequence number;
//! 3. [`Pending::commit`] notes, in one small write, up to where the file is in the log and which number comes next.
//!
//! A shim killed between 2 and 3 has logged bytes that are not noted. Its successor cuts the same bytes into the same
//! records and leaves out as many as the log has gone beyond the noted number: no line is lost, none is doubled.
//!
//! A stream has two files, used in turn. When one has grown large, the unfinished line at its end moves to the other,
//! and the note is what switches. Nothing of this is for power failures: then the process is gone too.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;

use rustix::pipe::{SpliceFlags, splice};

const NOTE_FILE: &str = "pending";
/// The two files of each stream.
const FILES: [[&str; 2]; 2] = [["pending.out.0", "pending.out.1"], ["pending.err.0", "pending.err.1"]];
/// First word of the note; changes with its form.
const FORM: u64 = 0x6265_7274_6801;
/// A file that is longer gives way to the other one.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Where the log stood at the last [`Pending::commit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) next_sequence: u64,
    /// Records over the budget that had not been marked as a gap.
    pub(crate) dropped: u64,
}

/// What a predecessor left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) noted: Option<Noted>,
    /// By stream: bytes behind the noted place.
    pub(crate) bytes: [Vec<u8>; 2],
}

#[derive(Debug)]
pub(crate) struct Pending {
    note: File,
    streams: [Stream; 2],
}

#[derive(Debug)]
struct Stream {
    current: usize,
    file: File,
    /// What is before it is in the log.
    start: u64,
    end: u64,
    /// Bytes went past the file, because it could not be written.
    bypassed: bool,
}

impl Pending {
    /// Opens the files in the working directory, which is the run directory, and gives what they hold.
    pub(crate) fn open() -> io::Result<(Self, Left)> {
        let note = open_file(NOTE_FILE)?;
        let mut words = [[0; 8]; 7];
        let whole = note.read_exact_at(words.as_flattened_mut(), 0).is_ok();
        let [form, next_sequence, dropped, places @ ..] = words.map(u64::from_ne_bytes);
        let mut left = Left::default();
        let places = if whole && form == FORM {
            left.noted = Some(Noted { next_sequence, dropped });
            places
        } else {
            [0; 4]
        };
        let [out_file, out_start, err_file, err_start] = places;
        let mut open = |at: usize, current: u64, start: u64| {
            let (stream, bytes) = Stream::open(at, usize::from(current == 1), start)?;
            if left.noted.is_some() {
                left.bytes[at] = bytes;
            }
            Ok::<_, io::Error>(stream)
        };
        let streams = [open(0, out_file, out_start)?, open(1, err_file, err_start)?];
        Ok((Self { note, streams }, left))
    }

    /// Moves what `fifo` holds, at most as much as `buffer`, to the stream's file, and gives it in the buffer as well.
    ///
    /// # Errors
    /// `WouldBlock`: the FIFO is empty.
    pub(crate) fn take(&mut self, at: usize, fifo: &File, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(stream) = self.streams.get_mut(at) else { return Ok(0) };
        let mut end = stream.end;
        let spliced =
            splice(fifo.as_fd(), None, stream.file.as_fd(), Some(&mut end), buffer.len(), SpliceFlags::NONBLOCK);
        match spliced {
            Ok(count) => {
                let from = stream.end;
                stream.end += count as u64;
                stream.file.read_exact_at(buffer.get_mut(..count).unwrap_or_default(), from)?;
                Ok(count)
            }
            Err(rustix::io::Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            // A full disk: the process must not wait for it, so its output goes on unprotected.
            Err(_) => {
                stream.bypassed = true;
                io::Read::read(&mut &*fifo, buffer)
            }
        }
    }

    /// Notes that everything but the unfinished lines `tails` is in the log, or counted as dropped.
    pub(crate) fn commit(&mut self, noted: Noted, tails: [&[u8]; 2]) {
        let mut outgrown = [None, None];
        for (at, (stream, tail)) in self.streams.iter_mut().zip(tails).enumerate() {
            stream.start = stream.end.saturating_sub(tail.len() as u64);
            if stream.end > FILE_BYTES_MAX || stream.bypassed {
                outgrown[at] = stream.switch(at, tail).ok();
                // Without room for a few bytes there is no protection either.
                stream.bypassed = outgrown[at].is_none() && stream.bypassed;
                if stream.bypassed {
                    stream.start = stream.end;
                }
            }
        }
        let [out, err] = &self.streams;
        let places = [out.current as u64, out.start, err.current as u64, err.start];
        let mut words = vec![FORM, noted.next_sequence, noted.dropped];
        words.extend(places);
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_ne_bytes).collect();
        // In place, so it needs no room on a full disk. Its few bytes are copied at once: a kill does not tear them.
        drop(self.note.write_all_at(&bytes, 0));
        for old in outgrown.into_iter().flatten() {
            // It would also be emptied before its next use; this gives the memory back now.
            drop(old.set_len(0));
        }
    }
}

impl Stream {
    fn open(at: usize, current: usize, start: u64) -> io::Result<(Self, Vec<u8>)> {
        let file = open_file(FILES[at][current])?;
        let end = file.metadata()?.len();
        let start = start.min(end);
        let mut bytes = vec![0; usize::try_from(end - start).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, start)?;
        Ok((Self { current, file, start, end, bypassed: false }, bytes))
    }

    /// Goes on in the other file, which then holds `tail`. Gives the file of before, valid until the switch is noted.
    fn switch(&mut self, at: usize, tail: &[u8]) -> io::Result<File> {
        let other = 1 - self.current;
        let file = open_file(FILES[at][other])?;
        file.set_len(0)?;
        file.write_all_at(tail, 0)?;
        (self.current, self.start, self.end) = (other, 0, tail.len() as u64);
        Ok(std::mem::replace(&mut self.file, file))
    }
}

/// Removes the files; all is in the log.
pub(crate) fn remove() {
    for name in FILES.as_flattened().iter().chain([&NOTE_FILE]) {
        drop(fs::remove_file(name));
    }
}

fn open_file(name: &str) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(name)
}
