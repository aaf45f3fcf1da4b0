use std::os::unix::fs::MetadataExt as _;

use super::*;

struct Place {
    data: tempfile::TempDir,
    dirs: DataDirs,
}

impl Place {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let dirs = DataDirs::new(data.path());
        fs::create_dir_all(dirs.slugs()).unwrap();
        Self { data, dirs }
    }

    fn tree(&self, files: &[(&str, &str)]) -> PathBuf {
        let app = self.data.path().join("app");
        for (name, text) in files {
            let path = app.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        app
    }

    fn make(&self, app: &Path) -> Result<Slug, SlugError> {
        make(&self.dirs, app, Manifest::default(), 1_700_000_000, SLUG_BYTES_MAX)
    }

    /// Names in `slugs/`, where failed attempts must leave nothing.
    fn slugs(&self) -> usize {
        fs::read_dir(self.dirs.slugs()).unwrap().count()
    }
}

#[test]
fn a_slug_holds_its_archive_its_tree_and_its_manifest() {
    let place = Place::new();
    let app = place.tree(&[("Procfile", "web: x"), ("lib/a.txt", "a")]);
    std::os::unix::fs::symlink("/opt/berth/runtimes/x/bin/python", app.join("python")).unwrap();
    let slug = place.make(&app).unwrap();
    assert!(!app.exists(), "the tree is moved, not copied");
    assert_eq!(fs::read_to_string(slug.tree(&place.dirs).join("lib/a.txt")).unwrap(), "a");
    assert_eq!(find(&place.dirs, &slug.sha256).unwrap(), Some(slug.clone()));
    let digest = sha2::Digest::finalize(sha2::Digest::chain_update(
        <sha2::Sha256 as sha2::Digest>::new(),
        fs::read(slug.archive(&place.dirs)).unwrap(),
    ));
    assert_eq!(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), slug.sha256);
}

#[test]
fn times_of_the_build_are_clamped_and_older_ones_kept() {
    let place = Place::new();
    let app = place.tree(&[("old", "x"), ("new", "y")]);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000);
    File::open(app.join("old")).unwrap().set_modified(old).unwrap();
    let slug = place.make(&app).unwrap();
    let time = |name| fs::metadata(slug.tree(&place.dirs).join(name)).unwrap().mtime();
    assert_eq!((time("old"), time("new")), (1_500_000_000, 1_700_000_000));
}

#[test]
fn the_same_tree_is_the_same_slug_and_is_kept_once() {
    let place = Place::new();
    let first = place.make(&place.tree(&[("a", "1"), ("b/c", "2")])).unwrap();
    let second = place.make(&place.tree(&[("b/c", "2"), ("a", "1")])).unwrap();
    assert_eq!(first, second);
    assert_eq!(place.slugs(), 1);
}

#[test]
fn the_same_tree_with_another_manifest_is_another_slug() {
    let place = Place::new();
    let first = place.make(&place.tree(&[("a", "1")])).unwrap();
    let manifest = Manifest { languages: vec!["Python".to_owned()], ..Manifest::default() };
    let tree = place.tree(&[("a", "1")]);
    let second = make(&place.dirs, &tree, manifest, 1_700_000_000, SLUG_BYTES_MAX).unwrap();
    assert_ne!(first.sha256, second.sha256);
    assert_eq!(find(&place.dirs, &second.sha256).unwrap(), Some(second));
}

#[test]
fn what_slugignore_lists_and_git_are_left_out() {
    let place = Place::new();
    let files = [(".git/config", "x"), ("docs/big.pdf", "x"), (".slugignore", "# note\n/docs\n"), ("app.py", "x")];
    let slug = place.make(&place.tree(&files)).unwrap();
    let names: Vec<_> = fs::read_dir(slug.tree(&place.dirs)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["app.py"]);
}

#[test]
fn a_slug_that_is_too_large_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let noise: String = (0..200_000_u32).map(|n| format!("{:x}", n.wrapping_mul(2_654_435_761))).collect();
    let app = place.tree(&[("noise", &noise)]);
    let result = make(&place.dirs, &app, Manifest::default(), 0, 1000);
    assert!(matches!(result, Err(SlugError::TooLarge { limit: 1000, .. })), "{result:?}");
    assert_eq!(place.slugs(), 0);
}

#[test]
fn a_lost_tree_is_restored_from_the_archive() {
    let place = Place::new();
    let slug = place.make(&place.tree(&[("a", "1")])).unwrap();
    fs::remove_dir_all(slug.tree(&place.dirs)).unwrap();
    unpack(&place.dirs, &slug.sha256).unwrap();
    assert_eq!(fs::read_to_string(slug.tree(&place.dirs).join("a")).unwrap(), "1");
}

#[test]
fn an_uploaded_archive_becomes_a_slug() {
    let place = Place::new();
    let upload = place.data.path().join("upload.tgz");
    let gzip = flate2::write::GzEncoder::new(File::create(&upload).unwrap(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o755);
    tar.append_data(&mut header, "./app/run", b"x\n".as_slice()).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    let types = BTreeMap::from([("web".to_owned(), "./run".to_owned())]);
    let slug = import(&place.dirs, &mut File::open(&upload).unwrap(), types.clone(), SLUG_BYTES_MAX).unwrap();
    assert_eq!(fs::read_to_string(slug.tree(&place.dirs).join("run")).unwrap(), "x\n");
    assert_eq!(slug.manifest.process_types, types);
    assert_eq!(place.slugs(), 1);
}

#[test]
fn a_manifest_is_not_believed() {
    let check = |manifest: Manifest| check_manifest(manifest, &["node-22.1.0".to_owned()]).is_ok();
    let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    assert!(check(Manifest { process_types: map("web", "x"), ..Manifest::default() }));
    assert!(check(Manifest { runtimes: vec!["node-22.1.0".to_owned()], ..Manifest::default() }));
    for bad in [
        Manifest { process_types: map("we b", "x"), ..Manifest::default() },
        Manifest { process_types: map("web", " "), ..Manifest::default() },
        Manifest { process_types: map("web", &"x".repeat(100_000)), ..Manifest::default() },
        Manifest { environment: map("A=B", "x"), ..Manifest::default() },
        Manifest { runtimes: vec!["../../etc".to_owned()], ..Manifest::default() },
        Manifest { runtimes: vec!["cpython-3.12.1-0".to_owned()], ..Manifest::default() },
        Manifest { path: vec!["bin".to_owned()], ..Manifest::default() },
        Manifest { path: vec!["/a:/b".to_owned()], ..Manifest::default() },
        Manifest { warnings: vec![String::new(); 1000], ..Manifest::default() },
    ] {
        assert!(!check(bad.clone()), "{bad:?}");
    }
}
