//! One look at everything: what is desired and what is known, read together.

use std::collections::HashMap;
use std::sync::Arc;

use domain::health::HealthCheck;
use domain::id::{AppId, SlugId};
use domain::release::ReleaseState;
use domain::rollout::ReleaseTarget;
use domain::routing::{PageUrls, RoutingSettings};
use jiff::Timestamp;
use store::app::App;
use store::custom_domain::Domain;
use store::dyno::Dyno;
use store::formation::Formation;
use store::managed_certificate::ManagedCertificate;
use store::release::Release;
use store::slug::Slug;
use store::sni_endpoint::SniEndpoint;
use store::{Store, StoreError};

/// Everything about one app that decisions need.
#[derive(Debug)]
pub(crate) struct AppWorld {
    pub(crate) app: App,
    pub(crate) formation: Vec<Formation>,
    /// On their way or serving, oldest first.
    pub(crate) releases: Vec<Release>,
    pub(crate) dynos: Vec<Dyno>,
    /// Custom ones.
    pub(crate) domains: Vec<Domain>,
    /// That the app brought along.
    pub(crate) certificates: Vec<SniEndpoint>,
    /// That were issued for its domains.
    pub(crate) managed_certificates: Vec<ManagedCertificate>,
    pub(crate) routing: RoutingSettings,
    pub(crate) page_urls: PageUrls,
    pub(crate) health_check: Option<HealthCheck>,
    /// May have passed.
    pub(crate) paused_until: Option<Timestamp>,
}

impl AppWorld {
    /// An app of which nothing else is known yet.
    pub(crate) fn bare(app: App) -> Self {
        Self {
            app,
            formation: Vec::new(),
            releases: Vec::new(),
            dynos: Vec::new(),
            domains: Vec::new(),
            certificates: Vec::new(),
            managed_certificates: Vec::new(),
            routing: RoutingSettings::default(),
            page_urls: PageUrls::default(),
            health_check: None,
            paused_until: None,
        }
    }

    pub(crate) fn serving(&self) -> Option<&Release> {
        self.releases.iter().rev().find(|release| release.state == ReleaseState::Serving)
    }

    /// The oldest release that is on its way: the only one that moves.
    pub(crate) fn under_way(&self) -> Option<&Release> {
        self.releases.iter().find(|release| release.state.is_under_way())
    }

    pub(crate) fn release_version(&self, dyno: &Dyno) -> Option<u64> {
        let id = dyno.release?;
        self.releases.iter().find(|release| release.id == id).map(|release| release.version)
    }
}

/// Reads the store and remembers slugs, which never change.
#[derive(Debug)]
pub(crate) struct Observer {
    store: Arc<Store>,
    slugs: HashMap<SlugId, Arc<Slug>>,
    /// By app, with the time of the change that they were read after: config vars must be decrypted.
    page_urls: HashMap<AppId, (Timestamp, PageUrls)>,
    /// What was last seen, and the change of the store that it was read after.
    seen: Option<(u64, Arc<Vec<AppWorld>>)>,
}

impl Observer {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store, slugs: HashMap::new(), page_urls: HashMap::new(), seen: None }
    }

    /// Everything as it is now. Where nothing has changed, nothing is read.
    pub(crate) fn look(&mut self) -> Result<Arc<Vec<AppWorld>>, StoreError> {
        // A change is told of after it was written: what is read now may be newer than its number, never older.
        let change = *self.store.changes().borrow();
        if let Some((_change, worlds)) = self.seen.as_ref().filter(|(seen, _worlds)| *seen == change) {
            return Ok(Arc::clone(worlds));
        }
        let worlds = Arc::new(self.read()?);
        self.seen = Some((change, Arc::clone(&worlds)));
        Ok(worlds)
    }

    fn read(&mut self) -> Result<Vec<AppWorld>, StoreError> {
        let mut worlds: Vec<AppWorld> = self.store.apps()?.into_iter().map(AppWorld::bare).collect();
        let places: HashMap<AppId, usize> =
            worlds.iter().enumerate().map(|(place, world)| (world.app.id, place)).collect();
        for formation in self.store.all_formations()? {
            if let Some(&place) = places.get(&formation.app) {
                worlds[place].formation.push(formation);
            }
        }
        for release in self.store.all_live_releases()? {
            if let Some(&place) = places.get(&release.app) {
                worlds[place].releases.push(release);
            }
        }
        for dyno in self.store.all_dynos()? {
            if let Some(&place) = places.get(&dyno.app) {
                worlds[place].dynos.push(dyno);
            }
        }
        for domain in self.store.all_domains()? {
            if let Some(&place) = places.get(&domain.app) {
                worlds[place].domains.push(domain);
            }
        }
        for certificate in self.store.managed_certificates()? {
            let has = |world: &&mut AppWorld| world.domains.iter().any(|one| one.hostname == certificate.hostname);
            if let Some(world) = worlds.iter_mut().find(has) {
                world.managed_certificates.push(certificate);
            }
        }
        for endpoint in self.store.all_sni_endpoints()? {
            if let Some(&place) = places.get(&endpoint.app) {
                worlds[place].certificates.push(endpoint);
            }
        }
        for (app, settings) in self.store.all_routing()? {
            if let Some(&place) = places.get(&app) {
                worlds[place].routing = settings;
            }
        }
        for (app, check) in self.store.all_health_checks()? {
            if let Some(&place) = places.get(&app) {
                worlds[place].health_check = Some(check);
            }
        }
        for (app, until) in self.store.all_pauses()? {
            if let Some(&place) = places.get(&app) {
                worlds[place].paused_until = Some(until);
            }
        }
        self.page_urls.retain(|app, _urls| places.contains_key(app));
        for world in &mut worlds {
            world.page_urls = self.page_urls(&world.app)?;
        }
        Ok(worlds)
    }

    fn page_urls(&mut self, app: &App) -> Result<PageUrls, StoreError> {
        if let Some((_at, urls)) = self.page_urls.get(&app.id).filter(|(at, _urls)| *at == app.updated_at) {
            return Ok(urls.clone());
        }
        let urls = PageUrls::of(&self.store.config(app.id)?);
        self.page_urls.insert(app.id, (app.updated_at, urls.clone()));
        Ok(urls)
    }

    pub(crate) fn slug(&mut self, id: SlugId) -> Result<Option<Arc<Slug>>, StoreError> {
        if let Some(slug) = self.slugs.get(&id) {
            return Ok(Some(Arc::clone(slug)));
        }
        let Some(slug) = self.store.slug(id)? else { return Ok(None) };
        let slug = Arc::new(slug);
        if slug.sha256.is_some() {
            self.slugs.insert(id, Arc::clone(&slug));
        }
        Ok(Some(slug))
    }

    pub(crate) fn forget_slug(&mut self, id: SlugId) {
        self.slugs.remove(&id);
    }

    /// The part of a release that placement needs; without code it places nothing.
    pub(crate) fn release_target(&mut self, release: &Release) -> Result<ReleaseTarget, StoreError> {
        let slug = release.slug.map(|id| self.slug(id)).transpose()?.flatten();
        let process_types = slug.iter().flat_map(|slug| &slug.process_types).map(|(name, _command)| name.clone());
        Ok(ReleaseTarget {
            version: release.version,
            process_types: process_types.filter(|name| !name.is_release()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use domain::name::AppName;
    use store::MasterKey;

    use super::*;

    #[tokio::test]
    async fn what_has_not_changed_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(&dir.path().join("berth.db"), MasterKey::new([7; 32])).unwrap());
        let now = Timestamp::UNIX_EPOCH;
        let account = store.create_account("ada@example.com".to_owned(), now).await.unwrap();
        let mut observer = Observer::new(Arc::clone(&store));
        let (first, again) = (observer.look().unwrap(), observer.look().unwrap());
        assert!(first.is_empty() && Arc::ptr_eq(&first, &again));
        store.create_app(AppName::parse("shop").unwrap(), account.id, now).await.unwrap();
        let after = observer.look().unwrap();
        assert_eq!(after.iter().map(|world| world.app.name.to_string()).collect::<Vec<_>>(), ["shop"]);
        assert!(Arc::ptr_eq(&after, &observer.look().unwrap()));
    }
}
