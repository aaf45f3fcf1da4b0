//! One plain app in each language, from source to a process that runs.

use crate::harness::TestApp;

#[test]
fn a_static_site_needs_only_its_files() {
    let app = TestApp::empty().file("index.html", "<h1>hello</h1>").file("style.css", "h1 { color: teal }");
    let built = app.build();
    built.says("-----> Static site detected");
    assert!(built.command("web").ends_with("/berth static-server ."), "{}", built.command("web"));
    assert_eq!(app.text_in(built.slug(), "index.html"), "<h1>hello</h1>");
}

#[test]
fn an_app_with_only_a_procfile_is_taken_as_it_is() {
    let app = TestApp::empty()
        .file("Procfile", "web: ./serve --port $PORT\nworker: ./work\n")
        .executable("serve", "#!/bin/sh\n");
    let built = app.build();
    built.says("Procfile declares types -> web, worker");
    assert_eq!(built.command("web"), "./serve --port $PORT");
    assert_eq!(built.slug().manifest.languages, Vec::<String>::new());
}

#[test]
fn the_same_source_built_twice_is_the_same_slug() {
    let app = TestApp::empty()
        .file("Procfile", "web: cat made")
        .executable("bin/post_compile", "#!/bin/sh\necho made > \"$BUILD_DIR/made\"\n");
    let (first, second) = (app.build(), app.build());
    assert_eq!(first.slug().sha256, second.slug().sha256);
    assert_eq!(app.run_dyno(second.slug(), "cat made"), "made\n");
    let other = app.file("Procfile", "web: cat other").build();
    assert_ne!(first.slug().sha256, other.slug().sha256);
}

#[test]
fn registry_a_python_app_gets_its_environment_and_runs_in_it() {
    let app = TestApp::named("python-plain");
    let built = app.build();
    built.says("-----> Python app detected").says("Using Python 3.12");
    let output = app.run_dyno(built.slug(), "python app.py");
    assert!(output.starts_with("six 1.17.0 on 3.12"), "{output}\n{}", built.log);
    let again = app.build();
    again.says("Restoring the environment from the cache");
    assert_eq!(again.slug().sha256, built.slug().sha256);
}

#[test]
fn registry_a_node_app_is_built_and_pruned() {
    let app = TestApp::named("node-plain");
    let built = app.build();
    built.says("-----> Node.js app detected").says("Running build (npm)").says("Pruning devDependencies");
    assert_eq!(built.command("web"), "npm start");
    assert_eq!(app.text_in(built.slug(), "built.txt"), "built with NODE_ENV=production\n");
    assert!(!app.path_in(built.slug(), "node_modules/tool").exists());
    assert_eq!(app.run_dyno(built.slug(), "node -e 'console.log(process.env.NODE_ENV)'"), "production\n");
}

#[test]
fn a_rust_app_is_built_with_its_target_directory_in_the_cache() {
    let app = TestApp::named("rust-plain");
    let built = app.build();
    assert_eq!(built.command("web"), "./target/release/hello");
    assert_eq!(app.run_dyno(built.slug(), "./target/release/hello"), "one\n");
    // An older commit must not be mistaken for what the cache holds.
    let older = app.file("src/main.rs", "fn main() {\n    println!(\"two\");\n}\n").dated(1_600_000_000);
    let rebuilt = older.build();
    assert_eq!(older.run_dyno(rebuilt.slug(), "./target/release/hello"), "two\n");
}

#[test]
fn a_go_app_is_built_and_its_only_command_serves() {
    let app = TestApp::named("go-plain");
    let built = app.build();
    built.says("-----> Go app detected").says("Using Go 1.").says("-----> go install ./...");
    assert_eq!(built.command("web"), "./bin/hello");
    assert_eq!(app.run_dyno(built.slug(), "./bin/hello"), "hello from Go\n");
}

#[test]
fn registry_django_without_a_procfile_is_served_by_the_gunicorn_that_it_brings() {
    let app = TestApp::named("django-default");
    let built = app.build();
    assert_eq!(built.command("web"), "gunicorn mysite.wsgi");
    let checked = app.run_dyno(built.slug(), "gunicorn --check-config mysite.wsgi && echo fine");
    assert!(checked.ends_with("fine\n"), "{checked}");
}

#[test]
fn registry_locks_of_every_python_tool_are_understood() {
    let pipenv = TestApp::named("python-pipenv");
    let built = pipenv.build();
    built.says("Installing dependencies from Pipfile.lock using uv");
    assert_eq!(pipenv.run_dyno(built.slug(), "python -c 'import six; print(six.__version__)'"), "1.16.0\n");

    let poetry = TestApp::named("python-poetry");
    let built = poetry.build();
    built.says("Installing dependencies from poetry.lock using uv");
    assert_eq!(poetry.run_dyno(built.slug(), "python -c 'import six; print(six.__version__)'"), "1.16.0\n");

    let project = TestApp::named("python-project");
    let built = project.build();
    built.says("Installing dependencies from pyproject.toml using uv");
    assert_eq!(project.run_dyno(built.slug(), "python -c 'import six; print(six.__version__)'"), "1.17.0\n");

    let lock = project.uv_lock();
    let locked = project.file("uv.lock", &lock);
    let built = locked.build();
    built.says("Installing dependencies using uv sync");
    assert_eq!(locked.run_dyno(built.slug(), "python -c 'import six; print(six.__version__)'"), "1.17.0\n");
}

#[test]
fn registry_pnpm_and_yarn_follow_their_own_locks() {
    let base = || TestApp::named("node-plain");
    let pnpm = base().file(
        "pnpm-lock.yaml",
        "lockfileVersion: '9.0'\n\nsettings:\n  autoInstallPeers: true\n  excludeLinksFromLockfile: false\n\nimporters:\n\n  .:\n    devDependencies:\n      tool:\n        specifier: file:tool\n        version: file:tool\n\npackages:\n\n  tool@file:tool:\n    resolution: {directory: tool, type: directory}\n\nsnapshots:\n\n  tool@file:tool: {}\n",
    );
    let built = pnpm.build();
    built.says("Installing dependencies: pnpm install --frozen-lockfile");
    assert_eq!(pnpm.text_in(built.slug(), "built.txt"), "built with NODE_ENV=production\n");

    let yarn = base().file("yarn.lock", "# yarn lockfile v1\n\n\n\"tool@file:tool\":\n  version \"1.0.0\"\n");
    let built = yarn.build();
    built.says("Installing dependencies: yarn install --frozen-lockfile");
    assert_eq!(yarn.text_in(built.slug(), "built.txt"), "built with NODE_ENV=production\n");
}
