//! Files: who owns what, on which side, and what is left afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use wire::shim::{Mechanism, Mount, Request};

use crate::harness::{Dyno, eventually, needs_root, skip};

#[tokio::test]
async fn a_writable_mount_belongs_to_the_app_inside_and_to_its_owner_outside() {
    if skip("a_writable_mount_belongs_to_the_app_inside_and_to_its_owner_outside", needs_root()) {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    chown(source.path(), Some(33_333), Some(33_334)).unwrap();
    fs::set_permissions(source.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let dyno = Dyno::shell("stat -c '%u %g' /cache; echo hello > /cache/new; stat -c '%u %g' /cache/new")
        .mount(Mount::Writable { source: source.path().to_owned(), target: "/cache".into() });
    let state = dyno.launch().await.unwrap();
    dyno.exit().await;
    let mapped = state.in_force.contains(&Mechanism::IdmappedMounts);
    let reason = (!mapped).then_some("the file system of the temporary directory cannot be idmapped");
    if skip("a_writable_mount_belongs_to_the_app_inside_and_to_its_owner_outside", reason) {
        return;
    }
    assert_eq!(dyno.lines("out"), ["412345 412345", "412345 412345"], "{:?}", dyno.lines("err"));
    let outside = fs::metadata(source.path().join("new")).unwrap();
    assert_eq!((outside.uid(), outside.gid()), (33_333, 33_334));
}

#[tokio::test]
async fn writes_to_an_overlay_vanish_and_a_private_slug_is_readable() {
    if skip("writes_to_an_overlay_vanish_and_a_private_slug_is_readable", needs_root()) {
        return;
    }
    let slug = tempfile::tempdir().unwrap();
    fs::write(slug.path().join("file"), "slug\n").unwrap();
    fs::set_permissions(slug.path().join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    let dyno = Dyno::shell(
        "cat file; echo changed > file; cat file; mkdir new; stat -c %U . file new; rm file; test ! -e file",
    )
    .mount(Mount::Overlay { lower: slug.path().to_owned(), target: "/app".into() });
    let mut dyno = dyno;
    dyno.spec.working_dir = "/app".into();
    let (exit, lines) = dyno.run().await;
    assert_eq!(exit.status, Some(0), "{:?}", dyno.lines("err"));
    assert_eq!(lines, ["slug", "changed", "app", "app", "app"]);
    assert_eq!(fs::read_to_string(slug.path().join("file")).unwrap(), "slug\n");
    assert_eq!(fs::read_dir(slug.path()).unwrap().count(), 1);
    // Removed after the exit record is written.
    eventually("the removal of the layers", || (!dyno.run_dir().join("layers").exists()).then_some(())).await;
}

#[tokio::test]
async fn read_only_means_read_only_also_for_the_mapped_owner() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("file"), "kept\n").unwrap();
    let dyno =
        Dyno::shell("echo x > /opt/berth/runtimes/file; cat /opt/berth/runtimes/file; ls /opt/berth; touch /opt/x")
            .mount(Mount::ReadOnly { source: source.path().to_owned(), target: "/opt/berth/runtimes".into() });
    let (_, lines) = dyno.run().await;
    assert_eq!(lines, ["kept", "runtimes"]);
    assert_eq!(fs::read_to_string(source.path().join("file")).unwrap(), "kept\n");
    assert_eq!(dyno.lines("err").len(), 2, "{:?}", dyno.lines("err"));
}

#[tokio::test]
async fn a_link_in_a_slug_cannot_move_a_mount_out_of_the_sandbox() {
    if skip("a_link_in_a_slug_cannot_move_a_mount_out_of_the_sandbox", needs_root()) {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let slug = tempfile::tempdir().unwrap();
    symlink(outside.path(), slug.path().join("data")).unwrap();
    let dyno = Dyno::shell("sleep 1000")
        .mount(Mount::Overlay { lower: slug.path().to_owned(), target: "/app".into() })
        .mount(Mount::Scratch { target: "/app/data/deep/inside".into() });
    // Whether it is refused or made inside, the host's directory stays as it was.
    if dyno.launch().await.is_ok() {
        dyno.ask(Request::Kill).await;
    }
    dyno.exit().await;
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_target_that_climbs_is_refused() {
    let dyno = Dyno::shell("true").mount(Mount::Scratch { target: "/app/../etc".into() });
    let error = dyno.launch().await.unwrap_err().to_string();
    assert!(error.contains("without `..`"), "{error}");
}
