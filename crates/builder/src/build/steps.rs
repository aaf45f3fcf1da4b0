//! From what was detected to the steps of the plan, with the tools of each mounted.

use std::path::Path;

use wire::build::{BuildpackSource, Step, Toolchain};
use wire::shim::Mount;

use super::{BuildError, io_error};
use crate::detect::{ClassicSource, Pack};
use crate::dirs::{DataDirs, Layout};
use crate::runtimes::{Provided, Runtimes, copy_tree};

/// Makes the tools of one build available.
pub(super) struct Steps<'a> {
    pub(super) runtimes: Runtimes<'a>,
    pub(super) dirs: &'a DataDirs,
    pub(super) layout: &'a Layout,
    /// The build's input directory, outside.
    pub(super) input: &'a Path,
    /// What the tools need, in the order of the packs.
    pub(super) mounts: Vec<Mount>,
}

impl Steps<'_> {
    pub(super) fn step(&mut self, pack: &Pack) -> Result<Step, BuildError> {
        Ok(match pack {
            Pack::Node(wanted) => {
                let provided = self.runtimes.node(wanted)?;
                Step::Node { node: self.mounted(provided) }
            }
            Pack::Python(wanted) => {
                let uv = self.runtimes.uv()?;
                let provided = self.runtimes.python(wanted, &uv.outside)?;
                let (source, target) = (self.dirs.runtimes().join(&uv.runtime), self.layout.runtime(&uv.runtime));
                self.mounts.push(Mount::ReadOnly { source, target });
                Step::Python { python: self.mounted(provided), uv: uv.inside }
            }
            Pack::Rust(channel) => {
                let provided = self.runtimes.rust(channel.as_deref())?;
                Step::Rust { rust: self.mounted(provided) }
            }
            Pack::Go(wanted) => {
                let provided = self.runtimes.go(wanted)?;
                Step::Go { go: self.mounted(provided) }
            }
            Pack::Static => Step::Static,
            Pack::Procfile => Step::Procfile,
            Pack::Classic { name, source } => {
                Step::Buildpack { name: name.clone(), source: self.buildpack(name, source)? }
            }
        })
    }

    fn mounted(&mut self, provided: Provided) -> Toolchain {
        if let Some(source) = provided.source {
            self.mounts.push(Mount::ReadOnly { source, target: provided.toolchain.root.clone() });
        }
        provided.toolchain
    }

    fn buildpack(&self, name: &str, source: &ClassicSource) -> Result<BuildpackSource, BuildError> {
        match source {
            ClassicSource::InApp(path) => Ok(BuildpackSource::Directory { path: self.layout.app.join(path) }),
            ClassicSource::Remote(remote) => Ok(remote.clone()),
            ClassicSource::Installed(installed) => {
                let from = self.dirs.buildpacks().join(installed);
                if !from.join("bin/compile").is_file() {
                    return Err(BuildError::NoSuchBuildpack(name.to_owned()));
                }
                let place = Path::new("buildpacks").join(installed);
                copy_tree(&from, &self.input.join(&place)).map_err(io_error("copy", &from))?;
                Ok(BuildpackSource::Directory { path: self.layout.input.join(place) })
            }
        }
    }
}
