//! What real applications do to a builder: one test for each thing seen.

use std::path::Path;

use builder::build::BuildError;
use builder::detect::DetectError;
use builder::runtimes::RuntimeError;

use crate::harness::TestApp;

/// 1: a version file that names what is not installed decides nothing but the version.
#[test]
fn registry_a_version_file_of_the_app_does_not_hijack_the_tools() {
    let app = TestApp::named("version-file");
    let built = app.build();
    built.says("Python 3.12.99 (from .python-version) is not available here; using 3.12.");
    assert!(app.run_dyno(built.slug(), "python -V").starts_with("Python 3.12."));
}

/// 1: nor do the shims of a version manager, which come first on many machines and fail inside such an app.
#[test]
fn registry_shims_that_come_first_in_the_hosts_path_are_never_run() {
    let mut app = TestApp::named("version-file")
        .file(
            "package.json",
            r#"{"name":"x","version":"1.0.0","engines":{"node":"20.x"},"scripts":{"build":"node -v"}}"#,
        )
        .with_fresh_runtimes();
    let shims = app.data.path().join("manager/shims");
    let mark = app.data.path().join("a-shim-ran");
    std::fs::create_dir_all(&shims).unwrap();
    for name in ["python", "python3", "uv", "pip", "pip3", "node", "npm"] {
        let shim = shims.join(name);
        std::fs::write(&shim, format!("#!/bin/sh\necho {name} >> {}\nexit 127\n", mark.display())).unwrap();
        std::fs::set_permissions(&shim, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let path = app.host.environment.get("PATH").cloned().unwrap_or_default();
    app.host.environment.insert("PATH".to_owned(), format!("{}:{path}", shims.display()));
    let built = app.build();
    built.says("Using Python 3.12.").says("Using Node ");
    assert!(app.run_dyno(built.slug(), "python -V").starts_with("Python 3.12."));
    assert!(!mark.exists(), "{:?}", std::fs::read_to_string(mark));
}

/// 2: what cannot be had is refused before anything runs, with what can be.
#[test]
fn registry_a_python_that_nobody_has_is_refused_with_the_list() {
    let error = TestApp::named("python-too-old").prepare().unwrap_err();
    assert!(matches!(error, BuildError::Runtime(RuntimeError::Resolve(_))), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("Python 3.5.2 (from runtime.txt) cannot be had here; what can be had: "), "{text}");
}

/// 2: `engines` of old samples fall back to what there is.
#[test]
fn registry_an_engine_from_the_past_falls_back_with_a_warning() {
    let built = TestApp::named("node-old-engine").build();
    built.says("Warning: Node 4.0.0 (from package.json engines) cannot be had here").says("Using Node ");
}

/// 3: the environment is complete at the path where it runs.
#[test]
fn registry_scripts_of_packages_run_at_the_path_where_they_were_installed() {
    let app = TestApp::empty().file("requirements.txt", "pyjokes==0.8.3\n").file(".python-version", "3.12\n");
    let built = app.build();
    let output = app.run_dyno(built.slug(), "head -1 .heroku/python/bin/pyjoke && pyjoke >/dev/null && echo ran");
    assert!(output.ends_with("ran\n") && output.contains(".heroku/python/bin/python"), "{output}");
}

/// 4: from Python 3.6 on, not 2.7.
#[test]
fn registry_python_2_is_refused() {
    let error =
        TestApp::empty().file("requirements.txt", "").file("runtime.txt", "python-2.7.18\n").prepare().unwrap_err();
    assert!(error.to_string().contains("what can be had: 3."), "{error}");
}

#[test]
fn an_aptfile_is_refused_by_name() {
    let error = TestApp::empty().file("Aptfile", "libvips42\n").file("requirements.txt", "").prepare().unwrap_err();
    assert!(matches!(&error, BuildError::Detect(DetectError::Aptfile(names)) if names == "libvips42"), "{error}");
}

/// 14: Procfiles as people write them.
#[test]
fn an_untidy_procfile_is_understood() {
    let app = TestApp::named("procfile-untidy");
    let built = app.build();
    let types: Vec<&str> = built.slug().manifest.process_types.keys().map(String::as_str).collect();
    assert_eq!(types, ["celery-beat_2", "release", "web", "worker"]);
    assert_eq!(app.run_dyno(built.slug(), built.command("release")), "migrated\n");
    assert_eq!(app.run_dyno(built.slug(), built.command("web")), "serving from src\n");
}

#[test]
fn a_procfile_that_cannot_be_read_fails_before_the_build() {
    let error = TestApp::empty().file("Procfile", "web: a\nnonsense\n").prepare().unwrap_err();
    assert!(error.to_string().contains("Procfile line 2"), "{error}");
}

/// 9: a toolchain that is not here is refused, never fetched in the middle of a build.
#[test]
fn a_rust_pin_that_is_not_installed_is_refused() {
    let error = TestApp::named("rust-pinned").prepare().unwrap_err();
    assert!(
        matches!(&error, BuildError::Runtime(RuntimeError::RustPin { wanted, .. }) if wanted == "1.41.0"),
        "{error}"
    );
}

/// 13: what `bin/post_compile` expects.
#[test]
fn hooks_see_the_build_directory_the_commit_and_the_config_vars() {
    let app = TestApp::named("hooks").config("GREETING", "good-morning-to-you").config("PYTHONPATH", "/elsewhere");
    let built = app.build();
    built.says("-----> Running bin/pre_compile hook").says("-----> Running bin/post_compile hook");
    built.says("greeting is [FILTERED]").says_not("good-morning");
    let seen = app.text_in(built.slug(), "seen.txt");
    let expected = format!(
        "BUILD_DIR={}\nSOURCE_VERSION=0123456789abcdef\nGREETING=good-morning-to-you\nENV_DIR has GREETING\nPYTHONPATH=\n",
        app.layout.app.display()
    );
    assert_eq!(seen, expected);
}

#[test]
fn a_hook_that_fails_fails_the_build() {
    let app =
        TestApp::empty().file("Procfile", "web: x").executable("bin/post_compile", "#!/bin/sh\necho no luck\nexit 3\n");
    app.build().fails().says("       no luck").says(" !     bin/post_compile hook failed with status 3");
}

/// 22: classic buildpacks, here one of the app's own.
#[test]
fn a_classic_buildpack_compiles_exports_and_releases() {
    let app = TestApp::named("classic-buildpack").buildpack("./buildpack").config("FLAVOUR", "mint-chocolate");
    let built = app.build();
    built.says("-----> Shell app detected (buildpack ./buildpack)").says("-----> Compiling for heroku-22");
    assert_eq!(built.command("web"), "cat compiled.txt");
    assert_eq!(app.run_dyno(built.slug(), built.command("web")), "flavour from ENV_DIR only\n");
    assert_eq!(app.run_dyno(built.slug(), "echo $FROM_PROFILE"), "profile sourced\n");
    app.build().says("cache was kept");
}

#[test]
fn a_buildpack_that_does_not_apply_says_so() {
    let app = TestApp::named("classic-buildpack").executable("buildpack/bin/detect", "#!/bin/sh\nexit 1\n");
    app.buildpack("./buildpack").build().fails().says("the buildpack ./buildpack does not apply to this app");
}

/// 5: the documented way past packages that no longer build or resolve.
#[test]
fn registry_overrides_and_build_constraints_of_the_app_are_used() {
    let app = TestApp::named("python-overrides");
    let built = app.build();
    built.says("Using uv-overrides.txt").says("Using uv-build-constraints.txt");
    assert_eq!(app.run_dyno(built.slug(), "python -c 'import six; print(six.__version__)'"), "1.17.0\n");
}

/// 6: what was compiled once stays in the app's cache.
#[test]
fn registry_a_wheel_that_was_built_once_is_not_built_again() {
    let app = TestApp::named("python-sdist");
    app.build().says("Built docopt==0.6.2");
    let changed = app.file("requirements.txt", "docopt==0.6.2\nsix==1.17.0\n").build();
    changed.says_not("Built docopt").says_not("Restoring the environment").says("six==1.17.0");
}

/// 7: who asked for which host.
#[test]
fn registry_an_install_script_that_cannot_download_is_named_with_its_host() {
    let script = "require('https').get('https://files.invalid/libfetch.tgz').on('error', (error) => { console.error(error.message); process.exit(1); });";
    let package = r#"{"name":"fetcher","version":"1.0.0","scripts":{"install":"node fetch.js"}}"#;
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (name, text) in [("package/package.json", package), ("package/fetch.js", script)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let tarball = tar.into_inner().unwrap().finish().unwrap();
    let app = TestApp::empty()
        .file("package.json", r#"{"name":"x","version":"1.0.0","engines":{"node":"20.x"},"dependencies":{"fetcher":"file:fetcher-1.0.0.tgz"}}"#)
        .bytes("fetcher-1.0.0.tgz", tarball);
    let built = app.build();
    built.fails().says("The host files.invalid cannot be reached from builds. The package that asked: fetcher.");
}

/// 7: node-gyp finds the headers of the Node in use, and has nothing to download.
#[test]
fn registry_a_script_finds_the_headers_of_its_node() {
    let app = TestApp::named("node-postbuild");
    let built = app.build();
    let said = app.text_in(built.slug(), "nodedir.txt");
    assert!(said.starts_with("headers at /") && said.contains("/node-22."), "{said}");
    // Heroku's own name for the script stands in for the usual one.
    assert_eq!(app.text_in(built.slug(), "ran.txt"), "heroku-postbuild\n");
    built.says("-----> Running heroku-postbuild (npm)").says_not("Running build");
}

/// 8: every Node brings the npm that runs on it.
#[test]
fn registry_a_fetched_node_uses_its_own_npm() {
    let app = TestApp::named("node-fetched");
    let built = app.build();
    built.says("Using Node 22.");
    assert_eq!(built.slug().manifest.runtimes.len(), 1, "{:?}", built.slug().manifest);
    let output = app.run_dyno(built.slug(), "node --version && npm root --global");
    assert!(output.starts_with("v22.") && output.contains("runtimes/node-22."), "{output}");
}

/// 10: config vars are there while macros check queries against the database they name.
#[test]
fn a_rust_build_sees_the_database_url() {
    let app = TestApp::named("rust-database-url");
    let url = "postgres://app:correct-horse@localhost/app";
    let built = app.config("DATABASE_URL", url).build();
    built.says_not("correct-horse");
    TestApp::named("rust-database-url").build().fails().says("DATABASE_URL");
}

/// 11, 12: the bundle that Node makes is among what Django collects.
#[test]
fn registry_django_collects_what_node_built() {
    let app = TestApp::named("django-node");
    let built = app.build();
    assert!(built.log.find("Node.js app detected") < built.log.find("Python app detected"), "{}", built.log);
    built.says("static file copied");
    assert_eq!(app.text_in(built.slug(), "staticfiles/app.css"), "h1{color:teal}\n");
    assert_eq!(built.slug().manifest.languages, ["Node.js", "Python"]);

    let app = app.config("DISABLE_COLLECTSTATIC", "1");
    app.build().says("Skipping collectstatic: DISABLE_COLLECTSTATIC is set").says_not("static file copied");

    let app = app.config("DISABLE_COLLECTSTATIC", "0").config("WITHOUT_STATIC_ROOT", "1");
    app.build().fails().says("Add to your settings: STATIC_ROOT = BASE_DIR / \"staticfiles\"");
}

/// 17: a database file in the slug is data about to be lost.
#[test]
fn a_database_file_in_the_slug_is_warned_of() {
    let app = TestApp::empty().file("Procfile", "web: x").file("db.sqlite3", "");
    let built = app.build();
    built.says(" !     Warning: db.sqlite3 is part of the slug");
    assert_eq!(built.slug().manifest.warnings.len(), 1);
}

/// 18: what processes expect to find set, and what must not be.
#[test]
fn registry_a_python_process_finds_the_variables_that_it_expects() {
    let app = TestApp::empty().file("requirements.txt", "").file(".python-version", "3.12").file("Procfile", "web: x");
    let built = app.build();
    let output = app.run_dyno(
        built.slug(),
        "[ \"$PYTHONPATH\" = \"$HOME\" ] && echo $PYTHONUNBUFFERED $LANG ${PYTHONHOME-unset} \"$FORWARDED_ALLOW_IPS\"; [ \"$VIRTUAL_ENV\" = \"$HOME/.heroku/python\" ] && which python",
    );
    let python = app.layout.virtual_env().join("bin/python");
    assert_eq!(output, format!("1 C.UTF-8 unset *\n{}\n", python.display()));
}

/// 19: a git dependency is shown by its address.
#[test]
fn registry_a_git_dependency_that_fails_is_shown_by_its_address() {
    let app = TestApp::empty()
        .file("requirements.txt", "ours @ git+https://git.invalid/team/ours.git@v1\n")
        .file(".python-version", "3.12\n");
    app.build().fails().says("The git dependency git+https://git.invalid/team/ours.git");
}

#[test]
fn a_cargo_git_dependency_that_fails_is_shown_by_its_address() {
    let built = TestApp::named("rust-git-dependency").build();
    built.fails().says("The git dependency https://git.invalid/team/ours could not be fetched");
    built.says("The host git.invalid cannot be reached from builds.");
}

/// 21: closed networks have a mirror of uv's interpreters, which downloads before and during a build use.
#[test]
fn the_mirror_for_pythons_reaches_whoever_downloads_one() {
    let mut app = TestApp::empty()
        .file("Procfile", "web: x")
        .executable("bin/post_compile", "#!/bin/sh\necho \"mirror is $UV_PYTHON_INSTALL_MIRROR\"\n");
    let mirror = "https://mirror.internal/pythons";
    app.host.environment.insert("UV_PYTHON_INSTALL_MIRROR".to_owned(), mirror.to_owned());
    app.build().says("mirror is https://mirror.internal/pythons");
    assert_eq!(app.host.client_environment()["UV_PYTHON_INSTALL_MIRROR"], mirror);
}

/// 15, 16, 20: they build; what is wrong with them shows when they run, in the platform's own tests.
#[test]
fn registry_apps_that_misbehave_at_run_time_build() {
    for name in ["port-ignored", "host-checking", "sigterm-ignored"] {
        let built = TestApp::named(name).build();
        assert_eq!(built.command("web"), "node index.js", "{name}");
    }
}

#[test]
fn an_operators_buildpack_is_used_by_its_name() {
    let app = TestApp::empty().file("app.txt", "app").buildpack("shell").config("FLAVOUR", "mint-chocolate");
    let place = app.dirs.buildpacks().join("shell/bin");
    std::fs::create_dir_all(&place).unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/apps/classic-buildpack/buildpack/bin");
    for script in ["detect", "compile", "release"] {
        std::fs::copy(ours.join(script), place.join(script)).unwrap();
    }
    app.build().says("-----> Shell app detected (buildpack shell)");
    assert!(!place.join("../export").exists(), "the operator's copy stays as it was");
    let error = TestApp::empty().file("app.txt", "app").buildpack("missing").prepare().unwrap_err();
    assert!(matches!(error, BuildError::NoSuchBuildpack(_)), "{error}");
}

#[test]
fn a_preparation_that_was_cut_off_begins_anew() {
    let prepared = TestApp::empty().file("Procfile", "web: x").prepare_again().unwrap();
    assert_eq!(prepared.plan.source_date, 1_700_000_000);
}

/// A build gets config vars and what it needs of the machine, with nothing of either in a file.
#[test]
fn the_plan_holds_names_and_the_environment_holds_values() {
    let app =
        TestApp::empty().file("Procfile", "web: x").config("API_KEY", "sk-0123456789").config("LD_PRELOAD", "/x.so");
    let prepared = app.prepare().unwrap();
    assert_eq!(prepared.plan.config_keys, ["API_KEY"]);
    let environment = prepared.environment.expose();
    assert_eq!(environment["API_KEY"], "sk-0123456789");
    assert_eq!(environment["PATH"], "/usr/local/bin:/usr/bin:/bin");
    assert!(!environment.contains_key("LD_PRELOAD"));
    assert!(!format!("{prepared:?}").contains("sk-0123456789"));
    for file in walkdir::WalkDir::new(app.data.path().join("builds")).into_iter().map(Result::unwrap) {
        let text = std::fs::read(file.path()).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains("sk-0123456789"), "{}", file.path().display());
    }
}
