//! The SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02): what is asked for is done by this process, which is
//! allowed as much as the app. One request after the other, each answered at once.
//!
//! Long, because it is one table of requests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, ReadDir};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const VERSION: u32 = 3;
/// Largest request in bytes. Clients write up to 256 kB at once.
const PACKET_BYTES_MAX: u32 = 320 * 1024;
/// Most bytes of one answer; a client that wants more asks again.
const READ_BYTES_MAX: u32 = 256 * 1024;
const HANDLES_MAX: usize = 256;
/// Names of a directory in one answer.
const NAMES_MAX: usize = 100;

const INIT: u8 = 1;
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const READ: u8 = 5;
const WRITE: u8 = 6;
const LSTAT: u8 = 7;
const FSTAT: u8 = 8;
const SETSTAT: u8 = 9;
const FSETSTAT: u8 = 10;
const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const RMDIR: u8 = 15;
const REALPATH: u8 = 16;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const READLINK: u8 = 19;
const SYMLINK: u8 = 20;
const VERSION_REPLY: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRIBUTES: u8 = 105;

const STATUS_OK: u32 = 0;
const STATUS_END: u32 = 1;
const STATUS_NO_SUCH_FILE: u32 = 2;
const STATUS_PERMISSION_DENIED: u32 = 3;
const STATUS_FAILURE: u32 = 4;
const STATUS_BAD_MESSAGE: u32 = 5;
const STATUS_UNSUPPORTED: u32 = 8;

const ATTRIBUTE_SIZE: u32 = 1;
const ATTRIBUTE_OWNER: u32 = 2;
const ATTRIBUTE_PERMISSIONS: u32 = 4;
const ATTRIBUTE_TIMES: u32 = 8;

const OPEN_READ: u32 = 1;
const OPEN_WRITE: u32 = 2;
const OPEN_APPEND: u32 = 4;
const OPEN_CREATE: u32 = 8;
const OPEN_TRUNCATE: u32 = 16;
const OPEN_EXCLUSIVE: u32 = 32;

/// Serves one client until it has gone.
pub(super) fn serve(mut stream: impl Read + Write) -> io::Result<()> {
    let mut server = Server::default();
    while let Some(packet) = read_packet(&mut stream)? {
        let mut fields = Fields(&packet);
        let Some(kind) = fields.byte() else { return Err(io::ErrorKind::InvalidData.into()) };
        let answer = if kind == INIT {
            Answer::new(VERSION_REPLY).number(VERSION)
        } else {
            let Some(id) = fields.number() else { return Err(io::ErrorKind::InvalidData.into()) };
            server.answer(kind, id, &mut fields)
        };
        stream.write_all(&answer.packet())?;
    }
    Ok(())
}

/// `None` at the end between packets.
fn read_packet(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_be_bytes(length);
    if length > PACKET_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut packet = vec![0; length as usize];
    stream.read_exact(&mut packet)?;
    Ok(Some(packet))
}

#[derive(Debug)]
enum Open {
    File(File),
    Directory(PathBuf, ReadDir),
}

#[derive(Debug, Default)]
struct Server {
    open: BTreeMap<u32, Open>,
    next: u32,
}

/// Why a request is not done.
enum Refusal {
    End,
    BadMessage,
    Unsupported,
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a request gives, before it has the number of its request.
enum Reply {
    Done,
    Handle(u32),
    Data(Vec<u8>),
    Names(Vec<(OsString, Option<Metadata>)>),
    Attributes(Metadata),
}

impl Server {
    fn answer(&mut self, kind: u8, id: u32, fields: &mut Fields<'_>) -> Answer {
        match self.perform(kind, fields) {
            Ok(Reply::Done) => Answer::status(id, STATUS_OK, "done"),
            Ok(Reply::Handle(handle)) => Answer::new(HANDLE).number(id).text(&handle.to_be_bytes()),
            Ok(Reply::Data(bytes)) => Answer::new(DATA).number(id).text(&bytes),
            Ok(Reply::Attributes(metadata)) => Answer::new(ATTRIBUTES).number(id).attributes(&metadata),
            Ok(Reply::Names(names)) => {
                let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
                names.iter().fold(Answer::new(NAME).number(id).number(count), |answer, (name, metadata)| {
                    let answer = answer.text(name.as_bytes()).text(&long_name(name, metadata.as_ref()));
                    match metadata {
                        Some(metadata) => answer.attributes(metadata),
                        None => answer.number(0),
                    }
                })
            }
            Err(refusal) => refusal.answer(id),
        }
    }

    fn perform(&mut self, kind: u8, fields: &mut Fields<'_>) -> Result<Reply, Refusal> {
        match kind {
            OPEN => {
                let (path, flags) = (fields.path()?, fields.number().ok_or(Refusal::BadMessage)?);
                let permissions = fields.attributes()?.permissions;
                let file = open_options(flags, permissions).open(path)?;
                self.keep(Open::File(file))
            }
            OPENDIR => {
                let path = fields.path()?;
                let entries = fs::read_dir(&path)?;
                self.keep(Open::Directory(path, entries))
            }
            CLOSE => self.open.remove(&fields.handle()?).map(|_closed| Reply::Done).ok_or(Refusal::BadMessage),
            READ => {
                let file = self.file(fields)?;
                let offset = fields.long().ok_or(Refusal::BadMessage)?;
                let length = fields.number().ok_or(Refusal::BadMessage)?.min(READ_BYTES_MAX);
                let mut bytes = vec![0; length as usize];
                let count = file.read_at(&mut bytes, offset)?;
                bytes.truncate(count);
                if count == 0 && length > 0 { Err(Refusal::End) } else { Ok(Reply::Data(bytes)) }
            }
            WRITE => {
                let file = self.file(fields)?;
                let offset = fields.long().ok_or(Refusal::BadMessage)?;
                file.write_all_at(fields.text().ok_or(Refusal::BadMessage)?, offset)?;
                Ok(Reply::Done)
            }
            STAT => Ok(Reply::Attributes(fs::metadata(fields.path()?)?)),
            LSTAT => Ok(Reply::Attributes(fs::symlink_metadata(fields.path()?)?)),
            FSTAT => Ok(Reply::Attributes(self.file(fields)?.metadata()?)),
            SETSTAT => {
                let path = fields.path()?;
                let attributes = fields.attributes()?;
                // Changing the mode alone must not need the right to read or write.
                if let Some(mode) = attributes.permissions {
                    fs::set_permissions(&path, Permissions::from_mode(mode))?;
                }
                if attributes.size.is_some() || attributes.times.is_some() {
                    attributes.apply(&OpenOptions::new().write(true).open(&path)?)?;
                }
                Ok(Reply::Done)
            }
            FSETSTAT => {
                let file = self.file(fields)?;
                let attributes = fields.attributes()?;
                if let Some(mode) = attributes.permissions {
                    file.set_permissions(Permissions::from_mode(mode))?;
                }
                attributes.apply(file)?;
                Ok(Reply::Done)
            }
            READDIR => self.names(fields.handle()?),
            REMOVE => done(fs::remove_file(fields.path()?)),
            MKDIR => done(fs::create_dir(fields.path()?)),
            RMDIR => done(fs::remove_dir(fields.path()?)),
            RENAME => {
                let (from, to) = (fields.path()?, fields.path()?);
                // The protocol knows no replacing; `rename` would.
                if fs::symlink_metadata(&to).is_ok() {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
                }
                done(fs::rename(from, to))
            }
            REALPATH => Ok(Reply::Names(vec![(absolute(&fields.path()?)?.into_os_string(), None)])),
            READLINK => Ok(Reply::Names(vec![(fs::read_link(fields.path()?)?.into_os_string(), None)])),
            SYMLINK => {
                // Target first: as every client sends it, against the draft.
                let (target, link) = (fields.path()?, fields.path()?);
                done(symlink(target, link))
            }
            _other => Err(Refusal::Unsupported),
        }
    }

    fn keep(&mut self, open: Open) -> Result<Reply, Refusal> {
        if self.open.len() >= HANDLES_MAX {
            return Err(io::Error::other("too many files are open").into());
        }
        let handle = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(handle, open);
        Ok(Reply::Handle(handle))
    }

    fn file(&self, fields: &mut Fields<'_>) -> Result<&File, Refusal> {
        match self.open.get(&fields.handle()?) {
            Some(Open::File(file)) => Ok(file),
            Some(Open::Directory(..)) | None => Err(Refusal::BadMessage),
        }
    }

    fn names(&mut self, handle: u32) -> Result<Reply, Refusal> {
        let Some(Open::Directory(path, entries)) = self.open.get_mut(&handle) else { return Err(Refusal::BadMessage) };
        let mut names = Vec::new();
        for entry in entries.take(NAMES_MAX) {
            let name = entry?.file_name();
            let metadata = fs::symlink_metadata(path.join(&name)).ok();
            names.push((name, metadata));
        }
        if names.is_empty() { Err(Refusal::End) } else { Ok(Reply::Names(names)) }
    }
}

fn done(result: io::Result<()>) -> Result<Reply, Refusal> {
    result.map(|()| Reply::Done).map_err(Refusal::Io)
}

fn open_options(flags: u32, permissions: Option<u32>) -> OpenOptions {
    let has = |flag| flags & flag != 0;
    let mut options = OpenOptions::new();
    options.read(has(OPEN_READ)).write(has(OPEN_WRITE)).append(has(OPEN_APPEND)).truncate(has(OPEN_TRUNCATE));
    options.create(has(OPEN_CREATE)).create_new(has(OPEN_CREATE) && has(OPEN_EXCLUSIVE));
    options.mode(permissions.unwrap_or(0o666) & 0o7777);
    options
}

/// Without links where the file is there; else as far as its name tells.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path),
        result => result,
    }
}

/// As `ls -l` begins, for clients that show it as it is.
fn long_name(name: &OsString, metadata: Option<&Metadata>) -> Vec<u8> {
    let Some(metadata) = metadata else { return name.as_bytes().to_vec() };
    let kind = if metadata.is_dir() {
        'd'
    } else if metadata.is_symlink() {
        'l'
    } else {
        '-'
    };
    let bit = |at: u32, letter: char| if metadata.mode() & (1 << at) == 0 { '-' } else { letter };
    let bits: String = (0..9).rev().map(|at| bit(at, ['x', 'w', 'r'][at as usize % 3])).collect();
    let text = format!("{kind}{bits} {} {} {} {} ", metadata.nlink(), metadata.uid(), metadata.gid(), metadata.len());
    [text.as_bytes(), name.as_bytes()].concat()
}

impl Refusal {
    fn answer(&self, id: u32) -> Answer {
        match self {
            Self::End => Answer::status(id, STATUS_END, "end of file"),
            Self::BadMessage => Answer::status(id, STATUS_BAD_MESSAGE, "this request cannot be understood"),
            Self::Unsupported => Answer::status(id, STATUS_UNSUPPORTED, "this server cannot do that"),
            Self::Io(error) => {
                let code = match error.kind() {
                    io::ErrorKind::NotFound => STATUS_NO_SUCH_FILE,
                    io::ErrorKind::PermissionDenied => STATUS_PERMISSION_DENIED,
                    _other => STATUS_FAILURE,
                };
                Answer::status(id, code, &error.to_string())
            }
        }
    }
}

/// What a client wants of a file, as far as it says so.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Attributes {
    size: Option<u64>,
    permissions: Option<u32>,
    /// Of the last access and of the last change, in seconds.
    times: Option<(u32, u32)>,
}

impl Attributes {
    /// Size and times; the owner is always the app's user.
    fn apply(self, file: &File) -> io::Result<()> {
        if let Some(size) = self.size {
            file.set_len(size)?;
        }
        if let Some((accessed, modified)) = self.times {
            let time = |seconds: u32| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
            file.set_times(fs::FileTimes::new().set_accessed(time(accessed)).set_modified(time(modified)))?;
        }
        Ok(())
    }
}

/// Takes a request apart. Nothing is there where it is too short.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]: [u8; 1]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (taken, rest) = self.0.split_at_checked(length as usize)?;
        self.0 = rest;
        Some(taken)
    }

    fn path(&mut self) -> Result<PathBuf, Refusal> {
        let text = self.text().filter(|text| !text.contains(&0)).ok_or(Refusal::BadMessage)?;
        // An empty name is the directory that one starts in.
        let text = if text.is_empty() { b"." } else { text };
        Ok(PathBuf::from(OsString::from_vec(text.to_vec())))
    }

    fn handle(&mut self) -> Result<u32, Refusal> {
        let bytes = self.text().and_then(|text| text.try_into().ok()).ok_or(Refusal::BadMessage)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn attributes(&mut self) -> Result<Attributes, Refusal> {
        let mut read = || {
            let mut attributes = Attributes::default();
            let flags = self.number()?;
            if flags & ATTRIBUTE_SIZE != 0 {
                attributes.size = Some(self.long()?);
            }
            if flags & ATTRIBUTE_OWNER != 0 {
                self.long()?;
            }
            if flags & ATTRIBUTE_PERMISSIONS != 0 {
                attributes.permissions = Some(self.number()? & 0o7777);
            }
            if flags & ATTRIBUTE_TIMES != 0 {
                attributes.times = Some((self.number()?, self.number()?));
            }
            Some(attributes)
        };
        read().ok_or(Refusal::BadMessage)
    }
}

struct Answer(Vec<u8>);

impl Answer {
    fn new(kind: u8) -> Self {
        Self(vec![kind])
    }

    fn status(id: u32, code: u32, message: &str) -> Self {
        Self::new(STATUS).number(id).number(code).text(message.as_bytes()).text(b"en")
    }

    fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn text(mut self, text: &[u8]) -> Self {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.0.extend(length.to_be_bytes());
        self.0.extend(text);
        self
    }

    fn attributes(self, metadata: &Metadata) -> Self {
        let flags = ATTRIBUTE_SIZE | ATTRIBUTE_OWNER | ATTRIBUTE_PERMISSIONS | ATTRIBUTE_TIMES;
        let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
        let mut answer = self.number(flags);
        answer.0.extend(metadata.len().to_be_bytes());
        let rest =
            [metadata.uid(), metadata.gid(), metadata.mode(), seconds(metadata.atime()), seconds(metadata.mtime())];
        rest.into_iter().fold(answer, Self::number)
    }

    fn packet(self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes(), &self.0[..]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends one request and gives the kind of the answer and what is behind its id.
    fn ask(server: &mut Server, kind: u8, body: &[u8]) -> (u8, Vec<u8>) {
        let packet = server.answer(kind, 7, &mut Fields(body)).packet();
        assert_eq!(packet[5..9], 7_u32.to_be_bytes());
        (packet[4], packet[9..].to_vec())
    }

    fn text(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    fn status(code: u32) -> Vec<u8> {
        code.to_be_bytes().to_vec()
    }

    #[test]
    fn a_file_is_written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = text(dir.path().join("a").as_os_str().as_bytes());
        let mut server = Server::default();
        let flags = (OPEN_READ | OPEN_WRITE | OPEN_CREATE).to_be_bytes();
        let attributes = [ATTRIBUTE_PERMISSIONS.to_be_bytes(), 0o600_u32.to_be_bytes()].concat();
        let (kind, handle) = ask(&mut server, OPEN, &[&path[..], &flags, &attributes].concat());
        assert_eq!(kind, HANDLE);
        let at = |offset: u64| [&handle[..], &offset.to_be_bytes()].concat();
        let (kind, answer) = ask(&mut server, WRITE, &[at(2), text(b"cd")].concat());
        assert_eq!((kind, &answer[..4]), (STATUS, &status(STATUS_OK)[..]));
        let (kind, answer) = ask(&mut server, READ, &[at(1), 9_u32.to_be_bytes().to_vec()].concat());
        assert_eq!((kind, answer), (DATA, text(b"\0cd")));
        let (kind, answer) = ask(&mut server, READ, &[at(4), 9_u32.to_be_bytes().to_vec()].concat());
        assert_eq!((kind, &answer[..4]), (STATUS, &status(STATUS_END)[..]));
        let (kind, answer) = ask(&mut server, STAT, &path);
        assert_eq!((kind, &answer[4..12]), (ATTRIBUTES, &4_u64.to_be_bytes()[..]));
        assert_eq!(ask(&mut server, CLOSE, &handle).1[..4], status(STATUS_OK));
        assert_eq!(ask(&mut server, CLOSE, &handle).1[..4], status(STATUS_BAD_MESSAGE));
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_is_listed_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("one"), "1").unwrap();
        let mut server = Server::default();
        let (_kind, handle) = ask(&mut server, OPENDIR, &text(dir.path().as_os_str().as_bytes()));
        let (kind, names) = ask(&mut server, READDIR, &handle);
        assert_eq!((kind, &names[..11]), (NAME, &[&1_u32.to_be_bytes()[..], &text(b"one")].concat()[..]));
        assert_eq!(ask(&mut server, READDIR, &handle).1[..4], status(STATUS_END));
    }

    #[test]
    fn faults_are_named_by_their_codes() {
        let mut server = Server::default();
        assert_eq!(ask(&mut server, STAT, &text(b"/nonexistent")).1[..4], status(STATUS_NO_SUCH_FILE));
        assert_eq!(ask(&mut server, STAT, b"\0\0\0\x09short").1[..4], status(STATUS_BAD_MESSAGE));
        assert_eq!(ask(&mut server, 200, b"").1[..4], status(STATUS_UNSUPPORTED));
        assert_eq!(ask(&mut server, READ, &text(b"xx")).1[..4], status(STATUS_BAD_MESSAGE));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut server = Server::default();
        for kind in 0..=255 {
            // Nothing that could exist: it must not be made either.
            for body in [&b""[..], b"\0", b"\xff\xff\xff\xff", b"\0\0\0\x02/\0", b"\0\0\0\x04\0\0\0\0\0"] {
                drop(server.answer(kind, 0, &mut Fields(body)));
            }
        }
        let giant = u32::MAX.to_be_bytes();
        read_packet(&mut &giant[..]).unwrap_err();
    }
}
