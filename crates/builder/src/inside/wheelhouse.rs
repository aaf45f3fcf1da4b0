//! The wheels that were compiled here, kept per app: uv builds a source distribution again whenever the index does not
//! let it trust its cached copy, and for some packages (uWSGI) that is a minute in every build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use super::Build;

impl Build<'_> {
    /// One house for each set of build constraints: they change what a wheel contains, not its name.
    pub(super) fn wheelhouse(&self, build_constraints: &str) -> PathBuf {
        let constraints = fs::read(self.app(build_constraints)).unwrap_or_default();
        let tag: String = Sha256::digest(&constraints).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        self.layout.cache.join("python").join(format!("wheels-{}-{tag}", self.manifest.stack))
    }

    /// Copies what uv built from an index's source distributions. Others (of a path or a repository) may change
    /// without changing their version.
    pub(super) fn keep_wheels(&self, house: &Path) -> io::Result<()> {
        fs::create_dir_all(house)?;
        for entry in fs::read_dir(self.layout.cache.join("uv")).into_iter().flatten() {
            let bucket = entry?;
            if !bucket.file_name().to_string_lossy().starts_with("sdists-") {
                continue;
            }
            for origin in ["pypi", "index"] {
                let wheels = WalkDir::new(bucket.path().join(origin)).into_iter().filter_map(Result::ok);
                for wheel in wheels.filter(|file| file.file_type().is_file()) {
                    let kept = house.join(wheel.file_name());
                    if wheel.path().extension().is_some_and(|extension| extension == "whl") && !kept.exists() {
                        fs::copy(wheel.path(), &kept)?;
                    }
                }
            }
        }
        Ok(())
    }
}
