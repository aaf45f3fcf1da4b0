use std::fs;
use std::io::Write as _;

use proptest::prelude::*;
use tar::EntryType;

use super::*;

/// A directory that holds `tree`, where archives go, and a file beside it that none of them may touch.
struct Place {
    outer: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("tree")).unwrap();
        fs::write(outer.path().join("victim"), "untouched").unwrap();
        Self { outer }
    }

    fn tree(&self) -> PathBuf {
        self.outer.path().join("tree")
    }

    fn unpack(&self, bytes: &[u8], options: Options) -> Result<Unpacked, ArchiveError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        unpack(&mut file, &self.tree(), &options)
    }

    #[track_caller]
    fn assert_nothing_outside(&self) {
        let names: Vec<_> = fs::read_dir(self.outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(fs::read_to_string(self.outer.path().join("victim")).unwrap(), "untouched");
    }
}

/// One entry as an attacker writes it: names go into the header unchecked.
fn entry(kind: EntryType, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o4755);
    header.set_mtime(1_700_000_000);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.name[..name.len()].copy_from_slice(name.as_bytes());
    gnu.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(EntryType::Regular, name, "", content.as_bytes())
}

fn tape(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(names: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, content) in names {
        writer.start_file(*name, zip::write::SimpleFileOptions::default().unix_permissions(0o755)).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn every_format_unpacks_to_the_same_tree() {
    let plain = tape(&[entry(EntryType::Directory, "src/", "", b""), file("src/main.rs", "fn main() {}")]);
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for bytes in [gzip(&plain), zstd, zip(&[("src/main.rs", "fn main() {}")]), plain] {
        let place = Place::new();
        let unpacked = place.unpack(&bytes, Options::SOURCE).unwrap();
        assert_eq!(unpacked.bytes, 12);
        assert_eq!(fs::read_to_string(place.tree().join("src/main.rs")).unwrap(), "fn main() {}");
    }
}

#[test]
fn times_and_the_executable_bit_are_kept_and_set_id_bits_are_not() {
    use std::os::unix::fs::MetadataExt as _;

    // Without what the usual umask takes away.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let place = Place::new();
    let unpacked = place.unpack(&tape(&[file("run", "#!/bin/sh\n")]), Options::SOURCE).unwrap();
    let data = fs::metadata(place.tree().join("run")).unwrap();
    assert_eq!((data.mode() & 0o7777, data.mtime()), (0o755, 1_700_000_000));
    assert_eq!(unpacked.newest, 1_700_000_000);
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    for name in ["../victim", "a/../../victim", "/tmp/victim", "..", "./../victim"] {
        for bytes in [tape(&[file(name, "owned")]), zip(&[(name, "owned")])] {
            let place = Place::new();
            let result = place.unpack(&bytes, Options::SOURCE);
            assert!(matches!(result, Err(ArchiveError::PathLeavesTree(_))), "{name}: {result:?}");
            place.assert_nothing_outside();
        }
    }
}

#[test]
fn links_that_leave_the_tree_are_refused_in_sources() {
    for target in ["../victim", "/etc/passwd", "a/../../victim", ""] {
        let place = Place::new();
        let result = place.unpack(&tape(&[entry(EntryType::Symlink, "link", target, b"")]), Options::SOURCE);
        assert!(matches!(result, Err(ArchiveError::LinkLeavesTree { .. })), "{target}: {result:?}");
    }
    let place = Place::new();
    let inner = [file("a/b", "x"), entry(EntryType::Symlink, "a/link", "../c/../a/b", b"")];
    place.unpack(&tape(&inner), Options::SOURCE).unwrap();
    let hard = Place::new().unpack(&tape(&[entry(EntryType::Link, "link", "../victim", b"")]), Options::SOURCE);
    assert!(matches!(hard, Err(ArchiveError::PathLeavesTree(_))), "{hard:?}");
}

#[test]
fn nothing_is_written_through_a_link() {
    for (kind, target) in [(EntryType::Symlink, ".."), (EntryType::Symlink, "../victim")] {
        let place = Place::new();
        let bytes = tape(&[entry(kind, "door", target, b""), file("door/victim", "owned"), file("door", "owned")]);
        // Slugs may hold such links; even so they lead nowhere.
        let result = place.unpack(&bytes, Options::SLUG);
        assert!(matches!(result, Err(ArchiveError::Write { .. })), "{result:?}");
        place.assert_nothing_outside();
    }
    let place = Place::new();
    let replaced = [entry(EntryType::Symlink, "door", "../victim", b""), file("door", "mine")];
    place.unpack(&tape(&replaced), Options::SLUG).unwrap();
    assert_eq!(fs::read_to_string(place.tree().join("door")).unwrap(), "mine");
    place.assert_nothing_outside();
}

#[test]
fn a_hard_link_to_a_link_is_refused() {
    let place = Place::new();
    let bytes = tape(&[
        entry(EntryType::Symlink, "soft", "../victim", b""),
        entry(EntryType::Link, "hard", "soft", b""),
        file("hard", "owned"),
    ]);
    let result = place.unpack(&bytes, Options::SLUG);
    assert!(matches!(result, Err(ArchiveError::Write { .. })), "{result:?}");
    place.assert_nothing_outside();
}

#[test]
fn devices_and_pipes_are_refused() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let result = Place::new().unpack(&tape(&[entry(kind, "x", "", b"")]), Options::SOURCE);
        assert!(matches!(result, Err(ArchiveError::Special { .. })), "{result:?}");
    }
}

#[test]
fn entries_and_bytes_are_bounded() {
    let limits = Limits { entries_max: 2, bytes_max: 10 };
    let options = Options { limits, ..Options::SOURCE };
    let many = tape(&[file("a", ""), file("b", ""), file("c", "")]);
    assert!(matches!(Place::new().unpack(&many, options), Err(ArchiveError::TooManyEntries(2))));
    let large = tape(&[file("a", "0123456"), file("b", "0123456")]);
    assert!(matches!(Place::new().unpack(&large, options), Err(ArchiveError::TooLarge(10))));
    let bomb = zip(&[("a", &"0".repeat(100_000))]);
    assert!(matches!(Place::new().unpack(&bomb, options), Err(ArchiveError::TooLarge(10))));
}

#[test]
fn an_archive_that_was_cut_off_says_so_wherever_the_cut_is() {
    let plain = tape(&[file("a", &"x".repeat(2000)), file("b", "y")]);
    let compressed = [gzip(&plain), zstd::encode_all(plain.as_slice(), 1).unwrap()];
    // Between two entries, within a file, and before the final zeros.
    for cut in [512 + 2048, 1000, 512 + 2048 + 1024] {
        let result = Place::new().unpack(&plain[..cut], Options::SOURCE);
        assert!(matches!(result, Err(ArchiveError::Truncated)), "{cut}: {result:?}");
    }
    for bytes in compressed {
        for cut in [20, bytes.len() / 2, bytes.len() - 1] {
            let result = Place::new().unpack(&bytes[..cut], Options::SOURCE);
            assert!(matches!(result, Err(ArchiveError::Truncated)), "{cut}: {result:?}");
        }
    }
    let zipped = zip(&[("a", "x")]);
    let result = Place::new().unpack(&zipped[..zipped.len() - 30], Options::SOURCE);
    assert!(matches!(result, Err(ArchiveError::Truncated)), "{result:?}");
}

#[test]
fn long_names_are_read_from_both_kinds_of_extension() {
    let name = format!("{}/file", "directory/".repeat(20));
    for format in [tar::Header::new_gnu(), tar::Header::new_ustar()] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = format;
        header.set_size(1);
        header.set_mode(0o644);
        if header.as_ustar().is_some() {
            builder.append_pax_extensions([("path", name.as_bytes())]).unwrap();
            header.set_path("short").unwrap();
            header.set_cksum();
            builder.append(&header, b"x".as_slice()).unwrap();
        } else {
            builder.append_data(&mut header, &name, b"x".as_slice()).unwrap();
        }
        let place = Place::new();
        place.unpack(&builder.into_inner().unwrap(), Options::SOURCE).unwrap();
        assert_eq!(fs::read_to_string(place.tree().join(&name)).unwrap(), "x");
    }
}

#[test]
fn the_folder_around_a_repository_is_stripped_only_on_request() {
    let bytes = tape(&[entry(EntryType::Directory, "repo-abc/", "", b""), file("repo-abc/Procfile", "web: x")]);
    let place = Place::new();
    place.unpack(&bytes, Options { top_folder: TopFolder::Strip, ..Options::SOURCE }).unwrap();
    assert!(place.tree().join("Procfile").exists());
    let place = Place::new();
    place.unpack(&bytes, Options::SOURCE).unwrap();
    assert!(place.tree().join("repo-abc/Procfile").exists());
}

#[test]
fn what_is_no_archive_is_called_so() {
    assert!(matches!(Place::new().unpack(b"hello", Options::SOURCE), Err(ArchiveError::UnknownFormat)));
    assert!(matches!(Place::new().unpack(b"", Options::SOURCE), Err(ArchiveError::Empty)));
    assert!(matches!(Place::new().unpack(&tape(&[]), Options::SOURCE), Err(ArchiveError::Empty)));
}

/// Names and links as somebody builds them who wants out.
fn hostile_path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof!["\\.\\.", "\\.", "a", "b", "", "victim"], 1..5)
        .prop_map(|parts| parts.join("/"))
}

fn hostile_entry() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![
        Just(EntryType::Regular),
        Just(EntryType::Symlink),
        Just(EntryType::Link),
        Just(EntryType::Directory),
    ];
    (kinds, hostile_path(), hostile_path()).prop_map(|(kind, name, link)| {
        entry(kind, &name, &link, if kind == EntryType::Regular { b"owned" } else { b"" })
    })
}

proptest! {
    #[test]
    fn no_sequence_of_entries_writes_outside(entries in proptest::collection::vec(hostile_entry(), 1..8)) {
        for options in [Options::SOURCE, Options::SLUG, Options { top_folder: TopFolder::Strip, ..Options::SLUG }] {
            let place = Place::new();
            let _result = place.unpack(&tape(&entries), options);
            place.assert_nothing_outside();
        }
    }

    #[test]
    fn no_bytes_make_the_unpacker_panic_or_write_outside(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2048), magic in 0_usize..5
    ) {
        let heads: [&[u8]; 4] = [&[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd], b"PK\x03\x04", b"PK\x05\x06"];
        if let Some(head) = heads.get(magic) {
            bytes.splice(0..0, head.iter().copied());
        } else if bytes.len() > 262 {
            bytes[257..262].copy_from_slice(b"ustar");
        }
        let place = Place::new();
        let _result = place.unpack(&bytes, Options::SOURCE);
        place.assert_nothing_outside();
    }

    #[test]
    fn a_flipped_byte_never_leads_outside(at in 0_usize..3072, value in any::<u8>()) {
        let mut bytes = tape(&[file("a/b", "x"), entry(EntryType::Symlink, "l", "a/b", b""), file("c", "y")]);
        let length = bytes.len();
        bytes[at % length] = value;
        let place = Place::new();
        let _result = place.unpack(&bytes, Options::SOURCE);
        place.assert_nothing_outside();
    }
}
