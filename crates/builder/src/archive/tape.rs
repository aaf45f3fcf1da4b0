//! tar, read entry by entry in raw form, so that the extension headers are bounded too.

use std::io::{self, Read};

use tar::EntryType;

use super::{ArchiveError, PATH_BYTES_MAX, Sink, Unpacked, damaged};

/// Largest PAX extension header that is read, in bytes.
const EXTENSION_BYTES_MAX: u64 = 64 * 1024;

/// What extension headers say about the entry that follows them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

pub(super) fn unpack(stream: impl Read, mut sink: Sink) -> Result<Unpacked, ArchiveError> {
    let mut archive = tar::Archive::new(EndWatch { inner: stream, zeros: 0 });
    let mut extension = Extension::default();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => extension.path = Some(long_name(&mut entry)?),
            EntryType::GNULongLink => extension.link = Some(long_name(&mut entry)?),
            EntryType::XHeader => read_pax(&mut entry, &mut extension)?,
            EntryType::XGlobalHeader => {}
            _ => {
                let Extension { path, link, size } = std::mem::take(&mut extension);
                let name = path.unwrap_or_else(|| entry.path_bytes().into_owned());
                let shown = || String::from_utf8_lossy(&name).into_owned();
                if size.is_some_and(|size| entry.header().entry_size().is_ok_and(|stated| stated != size)) {
                    return Err(ArchiveError::TooLarge(sink.options.limits.bytes_max));
                }
                let Some(target_path) = sink.admit(&name)? else { continue };
                let link =
                    || link.or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
                match kind {
                    EntryType::Directory => sink.directory(&target_path)?,
                    EntryType::Symlink => sink.symlink(&target_path, &link())?,
                    EntryType::Link => sink.hard_link(&target_path, &link())?,
                    EntryType::Regular | EntryType::Continuous => {
                        let mode = entry.header().mode().unwrap_or(0o644);
                        let modified = entry.header().mtime().unwrap_or(0);
                        let size = entry.header().entry_size().map_err(damaged)?;
                        let mut content = entry.take(size);
                        sink.file(&target_path, mode, modified, &mut content)?;
                        // tar's reader ends quietly where the stream does.
                        if content.limit() > 0 {
                            return Err(ArchiveError::Truncated);
                        }
                    }
                    _ => return Err(ArchiveError::Special { path: shown(), kind: kind_name(kind) }),
                }
            }
        }
    }
    let mut rest = archive.into_inner();
    if rest.zeros < 512 {
        return Err(ArchiveError::Truncated);
    }
    // The checksum of a compressed stream stands at its very end.
    io::copy(&mut (&mut rest).take(sink.options.limits.bytes_max), &mut io::sink()).map_err(damaged)?;
    if sink.unpacked.entries == 0 { Err(ArchiveError::Empty) } else { Ok(sink.unpacked) }
}

fn long_name(entry: &mut impl Read) -> Result<Vec<u8>, ArchiveError> {
    let mut name = Vec::new();
    entry.take(PATH_BYTES_MAX as u64 + 2).read_to_end(&mut name).map_err(damaged)?;
    while name.last() == Some(&0) {
        name.pop();
    }
    if name.len() > PATH_BYTES_MAX { Err(ArchiveError::PathTooLong) } else { Ok(name) }
}

fn read_pax(entry: &mut impl Read, extension: &mut Extension) -> Result<(), ArchiveError> {
    let mut bytes = Vec::new();
    entry.take(EXTENSION_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(damaged)?;
    if bytes.len() as u64 > EXTENSION_BYTES_MAX {
        return Err(ArchiveError::Damaged("an extension header is larger than 64 kB".to_owned()));
    }
    for record in tar::PaxExtensions::new(&bytes) {
        let record = record.map_err(damaged)?;
        let value = || Some(record.value_bytes().to_vec());
        match record.key_bytes() {
            b"path" => extension.path = value(),
            b"linkpath" => extension.link = value(),
            b"size" => extension.size = record.value().ok().and_then(|text| text.parse().ok()),
            _ => {}
        }
    }
    Ok(())
}

fn kind_name(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "named pipe",
        EntryType::GNUSparse => "sparse file",
        _ => "special entry",
    }
}

/// Counts the zero bytes at the end of what was read: a whole tar ends with at least one block of them, and one that
/// was cut off between two entries would otherwise look complete.
struct EndWatch<R> {
    inner: R,
    zeros: usize,
}

impl<R: Read> Read for EndWatch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        let trailing = read.iter().rev().take_while(|&&byte| byte == 0).count();
        self.zeros = if trailing == count { (self.zeros + count).min(1024) } else { trailing };
        Ok(count)
    }
}
