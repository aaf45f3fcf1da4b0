use proptest::prelude::*;

use super::*;

fn packs(files: &[(&str, &str)], requested: &[&str]) -> Result<Vec<Pack>, DetectError> {
    let requested: Vec<String> = requested.iter().map(|&name| name.to_owned()).collect();
    detect(&SourceTree::from_texts(files.iter().copied()), &requested).map(|detection| detection.packs)
}

fn names(files: &[(&str, &str)]) -> Vec<&'static str> {
    let name = |pack: &Pack| match pack {
        Pack::Node(_) => "node",
        Pack::Python(_) => "python",
        Pack::Rust(_) => "rust",
        Pack::Go(_) => "go",
        Pack::Static => "static",
        Pack::Procfile => "procfile",
        Pack::Classic { .. } => "classic",
    };
    packs(files, &[]).unwrap().iter().map(name).collect()
}

#[test]
fn files_tell_the_language() {
    assert_eq!(names(&[("requirements.txt", "")]), ["python"]);
    assert_eq!(names(&[("pyproject.toml", "[project]\nname = \"x\"\n")]), ["python"]);
    assert_eq!(names(&[("pyproject.toml", "[tool.black]\n"), ("Procfile", "web: x")]), ["procfile"]);
    assert_eq!(names(&[("package.json", "{}")]), ["node"]);
    assert_eq!(names(&[("Cargo.toml", "")]), ["rust"]);
    assert_eq!(names(&[("go.mod", "module x")]), ["go"]);
    assert_eq!(names(&[("index.html", "")]), ["static"]);
    assert_eq!(names(&[("index.html", ""), ("Procfile", "web: ./serve")]), ["procfile"]);
    assert_eq!(names(&[("Gemfile", "")]), ["classic"]);
    assert_eq!(packs(&[("README.md", "")], &[]), Err(DetectError::Nothing));
}

#[test]
fn node_builds_before_python() {
    assert_eq!(names(&[("requirements.txt", ""), ("package.json", "{}")]), ["node", "python"]);
}

#[test]
fn the_apps_buildpacks_win_over_app_json_and_that_over_the_files() {
    let files =
        [("requirements.txt", ""), ("package.json", "{}"), ("app.json", r#"{"buildpacks":[{"url":"heroku/python"}]}"#)];
    assert!(matches!(packs(&files, &[]).unwrap().as_slice(), [Pack::Python(_)]));
    assert!(matches!(packs(&files, &["heroku/nodejs"]).unwrap().as_slice(), [Pack::Node(_)]));
}

#[test]
fn versions_are_found_where_heroku_looks() {
    let wanted = |files: &[(&str, &str)]| match packs(files, &[]).unwrap().remove(0) {
        Pack::Python(wanted) | Pack::Node(wanted) => (wanted.text, wanted.source),
        other => panic!("{other:?}"),
    };
    let requirements = ("requirements.txt", "");
    assert_eq!(wanted(&[requirements, (".python-version", "# note\n3.12\n")]), ("3.12".into(), ".python-version"));
    assert_eq!(wanted(&[requirements, ("runtime.txt", "python-3.5.2\n")]), ("3.5.2".into(), "runtime.txt"));
    let pipfile = r#"{"_meta":{"requires":{"python_version":"3.11"}},"default":{}}"#;
    assert_eq!(wanted(&[("Pipfile.lock", pipfile)]), ("3.11".into(), "Pipfile.lock"));
    let old = "[project]\nname='x'\nrequires-python='>=3.8,<3.12'\n";
    assert_eq!(wanted(&[("pyproject.toml", old)]), (">=3.8,<3.12".into(), "pyproject.toml"));
    let open = "[project]\nname='x'\nrequires-python='>=3.8'\n";
    assert_eq!(wanted(&[("pyproject.toml", open)]), ("3.13".into(), ""));
    assert_eq!(wanted(&[requirements]), ("3.13".into(), ""));
    let package = r#"{"engines":{"node":"4.0.0"}}"#;
    assert_eq!(wanted(&[("package.json", package)]), ("4.0.0".into(), "package.json engines"));
}

#[test]
fn rust_toolchains_are_read_in_both_forms() {
    let toolchain = |name, text| packs(&[("Cargo.toml", ""), (name, text)], &[]);
    let expect = Ok(vec![Pack::Rust(Some("1.70.0".to_owned()))]);
    assert_eq!(toolchain("rust-toolchain.toml", "[toolchain]\nchannel = \"1.70.0\"\n"), expect);
    assert_eq!(toolchain("rust-toolchain", "1.70.0\n"), expect);
    assert!(matches!(
        toolchain("rust-toolchain.toml", "[toolchain]\nchannel = \"../../x\"\n"),
        Err(DetectError::RustToolchain(..))
    ));
}

#[test]
fn aptfiles_are_refused_by_name() {
    let error = packs(&[("requirements.txt", ""), ("Aptfile", "libpq-dev\n")], &[]).unwrap_err();
    assert!(error.to_string().contains("libpq-dev"), "{error}");
}

#[test]
fn buildpacks_come_from_urls_the_app_or_the_operator_only() {
    let one = |name: &str| packs(&[], &[name]).map(|mut packs| packs.remove(0));
    let remote = |url: &str, reference: Option<&str>| {
        Ok(ClassicSource::Remote(BuildpackSource::Git { url: url.to_owned(), reference: reference.map(str::to_owned) }))
    };
    let source = |name: &str| {
        one(name).map(|pack| match pack {
            Pack::Classic { source, .. } => source,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(source("https://example.com/a/b.git#v1/x"), remote("https://example.com/a/b.git", Some("v1/x")));
    assert_eq!(source("heroku/ruby"), remote("https://github.com/heroku/heroku-buildpack-ruby.git", None));
    assert_eq!(
        source("https://example.com/b.tgz"),
        Ok(ClassicSource::Remote(BuildpackSource::Archive { url: "https://example.com/b.tgz".to_owned() }))
    );
    assert_eq!(source("./buildpack"), Ok(ClassicSource::InApp("./buildpack".to_owned())));
    assert_eq!(source("ours"), Ok(ClassicSource::Installed("ours".to_owned())));
    for bad in ["/root/secrets", "./../../etc", "file:///etc", "http://example.com/x.git", "../x", "a/b", ".."] {
        assert!(source(bad).is_err(), "{bad}");
    }
    assert!(matches!(source("https://user:pass@example.com/x"), Err(DetectError::BuildpackUrl(_))));
}

proptest! {
    #[test]
    fn no_file_makes_detection_panic(text in ".{0,60}", name in "[a-z./:#@]{0,20}") {
        for file in ["app.json", ".python-version", "package.json", "rust-toolchain", "go.mod", "pyproject.toml"] {
            let tree = SourceTree::from_texts([(file, text.as_str()), ("requirements.txt", "")]);
            let _detection = detect(&tree, &[]);
            let _detection = detect(&tree, std::slice::from_ref(&name));
        }
    }
}
