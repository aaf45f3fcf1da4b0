//! Which steps build a source, and which versions it asks for. Pure: it sees a [`SourceTree`], not a disk.

use serde_json::Value;
use thiserror::Error;
use wire::build::BuildpackSource;

use crate::dirs::is_plain_name;
use crate::source_tree::SourceTree;
use crate::version::Wanted;

mod wanted;

/// Longest list of buildpacks.
const BUILDPACKS_MAX: usize = 20;

/// One thing that takes part in a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pack {
    Node(Wanted),
    Python(Wanted),
    /// `None`: the machine's default toolchain.
    Rust(Option<String>),
    Go(Wanted),
    Static,
    /// Nothing to build: the commands of the Procfile run what the source holds.
    Procfile,
    Classic {
        name: String,
        source: ClassicSource,
    },
}

/// Where a classic buildpack comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassicSource {
    /// A path in the app's own source.
    InApp(String),
    /// A name in the operator's `buildpacks/` directory.
    Installed(String),
    Remote(BuildpackSource),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    pub packs: Vec<Pack>,
    /// Lines for the build log.
    pub notes: Vec<String>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum DetectError {
    #[error(
        "cannot tell how to build this app: none of requirements.txt, pyproject.toml, uv.lock, Pipfile.lock, package.json, Cargo.toml, go.mod, index.html or Procfile is in its root; add one or set a buildpack"
    )]
    Nothing,
    #[error(
        "Aptfile is not supported: apps cannot install Debian packages ({0}); ask the operator to install them on the machine and remove the file"
    )]
    Aptfile(String),
    #[error("app.json is not valid JSON: {0}")]
    AppJson(String),
    #[error(transparent)]
    Cron(#[from] wire::cron::AppJsonError),
    #[error(
        "buildpack {0:?} is not known; give a git URL, the URL of a .tgz, or a path in the app that begins with ./"
    )]
    UnknownBuildpack(String),
    #[error("buildpack URL {0:?} must begin with https:// and hold no user name or password")]
    BuildpackUrl(String),
    #[error("more than {BUILDPACKS_MAX} buildpacks are set")]
    TooManyBuildpacks,
    #[error("{0} asks for the Rust toolchain {1:?}, which is not a toolchain name")]
    RustToolchain(&'static str, String),
    #[error("package.json is not valid JSON: {0}")]
    PackageJson(String),
}

/// `requested` is the app's own list of buildpacks; where it is empty `app.json` decides, then the files.
pub fn detect(tree: &SourceTree, requested: &[String]) -> Result<Detection, DetectError> {
    if let Some(packages) = tree.text("Aptfile") {
        let names: Vec<&str> = packages.lines().map(str::trim).filter(|line| !line.is_empty()).take(10).collect();
        return Err(DetectError::Aptfile(names.join(", ")));
    }
    if let Some(text) = tree.text("app.json") {
        // They count only once the release serves; a mistake in them is told now.
        wire::cron::jobs_of_app_json(text)?;
    }
    let mut notes = Vec::new();
    let from_app_json = if requested.is_empty() { app_json_buildpacks(tree)? } else { Vec::new() };
    let listed = if requested.is_empty() { &from_app_json } else { requested };
    if listed.len() > BUILDPACKS_MAX {
        return Err(DetectError::TooManyBuildpacks);
    }
    if !listed.is_empty() {
        let from = if requested.is_empty() { "app.json" } else { "the app's buildpacks" };
        notes.push(format!("Using {from}: {}", listed.join(", ")));
        let packs = listed.iter().map(|name| named(tree, name)).collect::<Result<_, _>>()?;
        return Ok(Detection { packs, notes });
    }
    let packs = automatic(tree)?;
    if packs.is_empty() { Err(DetectError::Nothing) } else { Ok(Detection { packs, notes }) }
}

/// Node comes first: its bundles are what Python's `collectstatic` collects.
fn automatic(tree: &SourceTree) -> Result<Vec<Pack>, DetectError> {
    let mut packs = Vec::new();
    if tree.has("package.json") {
        packs.push(Pack::Node(wanted::node(tree)?));
    }
    if is_python(tree) {
        packs.push(Pack::Python(wanted::python(tree)));
    }
    for (file, buildpack) in [("Gemfile", "heroku/ruby"), ("composer.json", "heroku/php"), ("pom.xml", "heroku/java")] {
        if tree.has(file) {
            packs.push(named(tree, buildpack)?);
        }
    }
    if !packs.is_empty() {
        return Ok(packs);
    }
    Ok(if tree.has("Cargo.toml") {
        vec![Pack::Rust(wanted::rust(tree)?)]
    } else if tree.has("go.mod") {
        vec![Pack::Go(wanted::go(tree))]
    } else if is_static(tree) {
        vec![Pack::Static]
    } else if tree.has("Procfile") {
        vec![Pack::Procfile]
    } else {
        Vec::new()
    })
}

fn is_python(tree: &SourceTree) -> bool {
    ["requirements.txt", "uv.lock", "Pipfile.lock", "poetry.lock", "manage.py"].iter().any(|name| tree.has(name))
        || tree.text("pyproject.toml").is_some_and(|text| text.contains("[project]") || text.contains("[tool.poetry]"))
}

fn is_static(tree: &SourceTree) -> bool {
    ["static.json", "index.html", "public/index.html", "dist/index.html", "build/index.html", "_site/index.html"]
        .iter()
        .any(|name| tree.has(name))
        && !tree.has("Procfile")
        || tree.has("static.json")
}

fn app_json_buildpacks(tree: &SourceTree) -> Result<Vec<String>, DetectError> {
    let Some(text) = tree.text("app.json") else { return Ok(Vec::new()) };
    let json: Value = serde_json::from_str(text).map_err(|error| DetectError::AppJson(error.to_string()))?;
    let list = json.get("buildpacks").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(list.iter().filter_map(|item| item.get("url")?.as_str()).map(str::to_owned).collect())
}

/// Our own steps for the names that Heroku gives its buildpacks; anything else runs as a classic buildpack.
fn named(tree: &SourceTree, name: &str) -> Result<Pack, DetectError> {
    let short = name.trim().trim_start_matches("urn:buildpack:");
    let classic = |source| Ok(Pack::Classic { name: name.to_owned(), source });
    match short {
        "heroku/python" | "python" => Ok(Pack::Python(wanted::python(tree))),
        "heroku/nodejs" | "nodejs" | "node" => Ok(Pack::Node(wanted::node(tree)?)),
        "heroku/go" | "go" => Ok(Pack::Go(wanted::go(tree))),
        "heroku/static" | "static" => Ok(Pack::Static),
        "rust" => Ok(Pack::Rust(wanted::rust(tree)?)),
        "heroku/procfile" | "procfile" => Ok(Pack::Procfile),
        "heroku-community/apt" | "apt" => Err(DetectError::Aptfile(format!("buildpack {short}"))),
        _ if short.starts_with("./") => {
            let inside = std::path::Path::new(short)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
            if inside {
                classic(ClassicSource::InApp(short.to_owned()))
            } else {
                Err(DetectError::UnknownBuildpack(name.to_owned()))
            }
        }
        _ if short.contains("://") || short.starts_with("git@") => classic(ClassicSource::Remote(remote(short)?)),
        _ => match short.strip_prefix("heroku/") {
            Some(language) if is_plain_name(language) => {
                let url = format!("https://github.com/heroku/heroku-buildpack-{language}.git");
                classic(ClassicSource::Remote(BuildpackSource::Git { url, reference: None }))
            }
            None if is_plain_name(short) => classic(ClassicSource::Installed(short.to_owned())),
            _ => Err(DetectError::UnknownBuildpack(name.to_owned())),
        },
    }
}

fn remote(url: &str) -> Result<BuildpackSource, DetectError> {
    let refused = || DetectError::BuildpackUrl(url.to_owned());
    let (address, reference) = match url.split_once('#') {
        Some((address, reference)) => (address, Some(reference.to_owned())),
        None => (url, None),
    };
    let rest = address.strip_prefix("https://").ok_or_else(refused)?;
    let printable = address.chars().all(|c| c.is_ascii_graphic());
    let plain_reference = reference.as_deref().is_none_or(|text| is_plain_name(&text.replace('/', "-")));
    if rest.split('/').next().unwrap_or_default().contains('@') || !printable || !plain_reference {
        return Err(refused());
    }
    let address = address.to_owned();
    Ok(if [".tgz", ".tar.gz"].iter().any(|ending| address.ends_with(ending)) {
        BuildpackSource::Archive { url: address }
    } else {
        BuildpackSource::Git { url: address, reference }
    })
}

#[cfg(test)]
mod tests;
