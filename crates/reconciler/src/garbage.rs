//! What the data directory holds that nothing needs any more.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use builder::dirs::DataDirs;
use store::Store;
use wire::platform_api::berth::{GarbageItem, GarbageReport};

use crate::main_loop::router_rings;
use crate::remove_tree::remove_tree;

/// Releases per app whose slugs are kept, besides the ones that serve or wait.
const RELEASES_KEPT: usize = 20;

/// How long the output of builds, release phases and one-offs can be read.
const OUTPUT_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// An upload that no build took within this time was given up.
const SOURCE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Lists what could be deleted, and deletes it if `delete` says so.
pub fn garbage(data_dir: &Path, store: &Store, delete: bool) -> io::Result<GarbageReport> {
    let dirs = DataDirs::new(data_dir);
    let failed = |error: store::StoreError| io::Error::other(error);
    let mut items = Vec::new();

    let (mut slugs_kept, mut apps, mut builds_kept) = (HashSet::new(), HashSet::new(), HashSet::new());
    for app in store.apps().map_err(failed)? {
        apps.insert(app.id.to_string());
        let releases = store.releases(app.id).map_err(failed)?;
        let live = store.live_releases(app.id).map_err(failed)?;
        let kept = releases.iter().rev().filter(|release| release.slug.is_some()).take(RELEASES_KEPT);
        let held = releases.iter().filter(|release| release.state == domain::release::ReleaseState::Held);
        for id in kept.chain(&live).chain(held).filter_map(|release| release.slug) {
            slugs_kept.extend(store.slug(id).map_err(failed)?.and_then(|slug| slug.sha256));
        }
    }
    for build in store.current_builds().map_err(failed)? {
        builds_kept.insert(build.id.to_string());
    }
    let mut runtimes_kept = HashSet::new();
    for sha256 in &slugs_kept {
        if let Ok(Some(slug)) = builder::slug::find(&dirs, sha256) {
            runtimes_kept.extend(slug.manifest.runtimes);
        }
    }
    let now = SystemTime::now();
    let old = |path: &Path, age: Duration| {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|passed| passed > age))
    };
    for_each_entry(&dirs.slugs(), |name, path| {
        // A slug in the making has a name of its own and a young age.
        if !slugs_kept.contains(name) && old(path, Duration::from_secs(60 * 60)) {
            items.push(item("slug", path, "no kept release uses it"));
        }
    })?;
    for_each_entry(&data_dir.join("sources"), |_name, path| {
        if old(path, SOURCE_KEPT) {
            items.push(item("source", path, "older than a day"));
        }
    })?;
    for_each_entry(&data_dir.join("builds"), |name, path| {
        if !builds_kept.contains(name) && old(path, Duration::from_secs(60 * 60)) {
            items.push(item("build", path, "its build is over"));
        }
    })?;
    for_each_entry(&data_dir.join("cache"), |name, path| {
        if !apps.contains(name) {
            items.push(item("cache", path, "its app is gone"));
        }
    })?;
    let router_rings: Vec<String> = router_rings().map(|(ring, _dir)| ring.to_string()).collect();
    for_each_entry(&data_dir.join("logs"), |name, path| {
        if !apps.contains(name) && !router_rings.iter().any(|ring| ring == name) && old(path, OUTPUT_KEPT) {
            items.push(item("output", path, "of a build, release phase or run that ended weeks ago"));
        }
    })?;
    for_each_entry(&dirs.runtimes(), |name, path| {
        // Tools that builds use (uv) are named by no slug: they are fetched again when they are needed.
        if !runtimes_kept.contains(name) && old(path, Duration::from_secs(7 * 24 * 60 * 60)) {
            items.push(item("runtime", path, "no kept release uses it"));
        }
    })?;
    if delete {
        for garbage in &items {
            remove_tree(Path::new(&garbage.path));
        }
    }
    let bytes_total = items.iter().map(|item| item.bytes).sum();
    Ok(GarbageReport { items, bytes_total, deleted: delete })
}

fn for_each_entry(dir: &Path, mut visit: impl FnMut(&str, &Path)) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str() {
            visit(name, &entry.path());
        }
    }
    Ok(())
}

fn item(kind: &str, path: &Path, reason: &str) -> GarbageItem {
    GarbageItem {
        kind: kind.to_owned(),
        path: path.display().to_string(),
        bytes: size_of(path),
        reason: reason.to_owned(),
    }
}

/// Bytes of a file or of everything below a directory, without following links.
fn size_of(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size_of(&entry.path())).sum()
}
