//! The examples that people deploy first.

use crate::harness::TestApp;

#[test]
fn registry_the_django_example_builds_migrates_and_answers() {
    let app = TestApp::example("django");
    let built = app.build();
    built.says("1 static file copied");
    let types: Vec<&str> = built.slug().manifest.process_types.keys().map(String::as_str).collect();
    assert_eq!(types, ["release", "web", "worker"]);
    // Without a database server the tables come with the slug, and the release phase finds nothing to do.
    built.says("Applying hello.0001_initial... OK");
    let migrated = app.run_dyno(built.slug(), built.command("release"));
    assert!(migrated.contains("No migrations to apply"), "{migrated}");
    let page =
        "python manage.py shell -v 0 -c 'from django.test import Client; print(Client().get(\"/\").content.decode())'";
    let page = app.run_dyno(built.slug(), page);
    assert!(page.contains("/static/hello/style.") && page.contains("Hello from Django"), "{page}");

    let warm = app.build();
    warm.says("Restoring the environment from the cache");
}

#[test]
fn registry_the_node_example_builds() {
    let built = TestApp::example("node").build();
    assert_eq!(built.command("web"), "node server.js");
    assert_eq!(built.slug().manifest.warnings, Vec::<String>::new());
}

#[test]
fn the_static_example_builds() {
    let app = TestApp::example("static");
    let built = app.build();
    assert!(app.text_in(built.slug(), "index.html").contains("<h1>Hello</h1>"));
}
