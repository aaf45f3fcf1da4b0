//! `deploy`: a directory becomes a release.

use std::fs::File;
use std::io::{self, IsTerminal as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use wire::platform_api::berth::{BuildProgress, HeldBuildCreate};
use wire::platform_api::{Build, BuildCreate, Release, Source, SourceBlob};

use super::{promote, releases};
use crate::api_client::{ApiClient, path};
use crate::archive::{self, DEFAULT_TIME};
use crate::context::Context;
use crate::progress::Progress;
use crate::{follow, git, output};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  berth deploy\n  berth deploy --app shop-staging --wait --promote\n  berth deploy --hold     (build now; `berth releases:resume` serves it later)\n\n\
                  What .gitignore and .slugignore name stays here, and so does .git. Changes that are not committed\n\
                  are deployed. The exit code is 0 only when the new release serves."
)]
pub struct Deploy {
    /// The directory to deploy
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// Build, but serve only after `releases:resume`
    #[arg(long)]
    hold: bool,
    /// Return as soon as the build has been requested
    #[arg(long)]
    no_wait: bool,
    /// Wait until the release serves; this is the default
    #[arg(long, conflicts_with_all = ["no_wait", "hold"])]
    wait: bool,
    /// When it serves, promote it to the next stage of the pipeline and wait for that, too
    #[arg(long, conflicts_with_all = ["no_wait", "hold"])]
    promote: bool,
}

pub(super) fn deploy(context: &Context, args: &Deploy) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    // Without the dot that the argument is by default: people read this path in errors.
    let directory: PathBuf = context.directory.join(&args.directory).components().collect();
    let head = git::head(&directory);
    let packed = pack(context, &directory, head.as_ref().map_or(DEFAULT_TIME, |head| head.time))?;
    let source: Source = client.post(&path(&["apps", &app, "sources"]), &serde_json::json!({}))?;
    upload(&client, &packed, &source.source_blob.put_url)?;
    let version = head.map(|head| format!("{}{}", head.commit, if head.is_dirty { "-dirty" } else { "" }));
    let source_blob = SourceBlob {
        checksum: Some(packed.checksum),
        url: source.source_blob.get_url,
        version,
        version_description: None,
    };
    let body = HeldBuildCreate { build: BuildCreate { source_blob, buildpacks: None }, hold: args.hold };
    let build: Build = client.post(&path(&["berth", "apps", &app, "builds"]), &body)?;
    if args.no_wait {
        if context.out.json {
            return Ok(context.out.json(&build)?);
        }
        return Ok(context
            .out
            .line(format_args!("Build {} was requested; `berth logs --tail` follows it.", build.id))?);
    }
    show_output(context, &client, &build)?;
    let progress = built(&client, &app, &build)?;
    let version = match (progress.status.as_str(), progress.release_version) {
        ("succeeded", Some(version)) => version,
        ("succeeded", None) => bail!("the build succeeded, but made no release; `berth releases` shows what is there"),
        (status, _) => bail!("the build {}", failure(status, progress.failure.as_deref())),
    };
    if args.hold {
        context.out.note(format_args!(
            "v{version} is built and held.\n  Try it:   berth run -a {app} --release v{version} -- COMMAND\n  \
             Serve it: berth releases:resume -a {app} v{version}"
        ));
    } else {
        releases::until_serving(context, &client, &app, version)?;
    }
    if args.promote {
        promote_release(context, &client, &app, version)?;
    }
    if context.out.json {
        context.out.json(&progress)?;
    }
    Ok(())
}

/// Promotes what was just deployed, and nothing else: another deploy may have come in between.
fn promote_release(context: &Context, client: &ApiClient, app: &str, version: u64) -> anyhow::Result<()> {
    let release: Release = client.get(&path(&["apps", app, "releases", &version.to_string()]))?;
    if !release.current {
        bail!("v{version} was replaced before it could be promoted; nothing was promoted")
    }
    promote::to_next_stage(context, client, app).map(|_targets| ())
}

fn failure(status: &str, reason: Option<&str>) -> String {
    let word = if status == "canceled" { "was cancelled" } else { "failed" };
    reason.map_or_else(|| word.to_owned(), |reason| format!("{word}: {}", reason.trim_end()))
}

/// An archive, compressed, in a file without a name: nothing is left behind however we end.
struct Packed {
    file: File,
    size_bytes: u64,
    /// In Heroku's form: `SHA256:…`.
    checksum: String,
}

fn pack(context: &Context, directory: &Path, time: u64) -> anyhow::Result<Packed> {
    let file = tempfile::tempfile().context("cannot make a temporary file for the archive; is TMPDIR full?")?;
    let mut encoder = zstd::Encoder::new(Hashed { file, hasher: Sha256::new(), size_bytes: 0 }, 3)?;
    let archived = archive::write(directory, time, &mut encoder)?;
    let Hashed { mut file, hasher, size_bytes } = encoder.finish().context("cannot write the archive")?;
    file.rewind()?;
    for path in &archived.skipped {
        context.out.warn(format_args!("{} is not a file, a directory or a link; it is left out.", path.display()));
    }
    let sizes = format_args!(
        "{} in {} files, {} to send",
        output::bytes(archived.bytes),
        archived.files,
        output::bytes(size_bytes)
    );
    context.out.note(format_args!("Packed {sizes}"));
    let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Packed { file, size_bytes, checksum: format!("SHA256:{hex}") })
}

struct Hashed {
    file: File,
    hasher: Sha256,
    size_bytes: u64,
}

impl Write for Hashed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn upload(client: &ApiClient, packed: &Packed, url: &str) -> anyhow::Result<()> {
    let bar = if io::stderr().is_terminal() { ProgressBar::new(packed.size_bytes) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("Uploading {bar:40} {bytes}/{total_bytes} {bytes_per_sec}")?);
    let sent = client.upload(url, bar.wrap_read(&packed.file), packed.size_bytes);
    bar.finish_and_clear();
    Ok(sent?)
}

/// Copies the build's output. Losing it is not losing the build: its end is asked for separately.
fn show_output(context: &Context, client: &ApiClient, build: &Build) -> anyhow::Result<()> {
    let progress = Progress::start("Waiting for the build");
    let copied = if context.out.json {
        follow::copy_output(client, &build.output_stream_url, &mut progress.output(io::stderr()))?
    } else {
        follow::copy_output(client, &build.output_stream_url, &mut progress.output(io::stdout()))?
    };
    drop(progress);
    match copied {
        Err(error) if !follow::is_only_output(&error) => Err(error.into()),
        Err(_lost) => {
            context.out.warn("The rest of the build's output could not be read; the build goes on.");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Waits for the build's end, and for the release that a successful one makes.
fn built(client: &ApiClient, app: &str, build: &Build) -> anyhow::Result<BuildProgress> {
    let url = path(&["berth", "apps", app, "builds", &build.id.to_string()]);
    Ok(follow::until_some(|| {
        let progress: BuildProgress = client.get(&url)?;
        Ok((progress.status != "pending").then_some(progress))
    })?)
}
