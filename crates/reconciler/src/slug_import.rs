//! Slugs whose trees are not unpacked yet: uploaded ones, and those that a restored backup left packed.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use builder::dirs::DataDirs;
use domain::display_chain::display_chain;
use domain::release::ReleaseEvent;
use jiff::Timestamp;
use store::release::Release;
use store::slug::Slug;
use tracing::{info, warn};

use crate::config::ReconcilerConfig;
use crate::main_loop::{MainLoop, Message};
use crate::remove_tree::remove_tree;
use crate::world::AppWorld;

impl MainLoop {
    pub(crate) fn slug_is_ready(&self, slug: &Slug) -> bool {
        let dirs = DataDirs::new(&self.config.data_dir);
        let tree = |sha: &String| dirs.slugs().join(sha).join(builder::slug::TREE).is_dir();
        slug.sha256.as_ref().is_some_and(tree)
    }

    /// Unpacks an uploaded slug, or one whose tree was left out of a backup, beside the loop.
    pub(crate) fn import_slug(&mut self, world: &AppWorld, release: &Release, slug: &Arc<Slug>) {
        if !self.imports.insert(slug.id) {
            return;
        }
        let (config, store, messages) = (Arc::clone(&self.config), Arc::clone(&self.store), self.messages.clone());
        let (slug, release) = (Arc::clone(slug), release.id);
        info!(app.name = %world.app.name, "Unpacking a slug");
        self.tasks.spawn(async move {
            let (blocking_slug, settings) = (Arc::clone(&slug), Arc::clone(&config));
            let imported = tokio::task::spawn_blocking(move || import(&settings, &blocking_slug)).await;
            let result = imported.unwrap_or_else(|error| Err(error.to_string()));
            let now = Timestamp::now();
            let recorded = match result {
                Ok((sha256, size_bytes)) => store.slug_repacked(slug.id, sha256, size_bytes).await,
                Err(failure) => {
                    store.advance_release(release, ReleaseEvent::Failed, Some(failure), now).await.map(|_done| ())
                }
            };
            if let Err(error) = recorded {
                warn!(error = display_chain(&error), "cannot record an imported slug");
            }
            drop(messages.send(Message::SlugImported { slug: slug.id }));
        });
    }
}

fn import(config: &ReconcilerConfig, slug: &Slug) -> Result<(String, u64), String> {
    let dirs = DataDirs::new(&config.data_dir);
    let sha256 = slug.sha256.clone().ok_or("the slug's archive was never uploaded")?;
    let uploaded = dirs.slugs().join(&sha256).join("uploaded");
    if !uploaded.exists() {
        builder::slug::unpack(&dirs, &sha256).map_err(|error| display_chain(&error))?;
        return Ok((sha256, slug.size_bytes));
    }
    let mut file = File::open(&uploaded).map_err(|error| format!("cannot read the uploaded slug: {error}"))?;
    let process_types: BTreeMap<String, String> =
        slug.process_types.iter().map(|(name, command)| (name.to_string(), command.clone())).collect();
    let made = builder::slug::import(&dirs, &mut file, process_types, config.slug_bytes_max)
        .map_err(|error| display_chain(&error))?;
    if made.sha256 != sha256 {
        remove_tree(&dirs.slugs().join(&sha256));
    }
    Ok((made.sha256, made.size_bytes))
}
