//! From stored rows to Heroku's resources.

use std::time::Duration;

use domain::dyno::DynoName;
use domain::id::AppId;
use domain::name::ProcessType;
use domain::release::{ReleaseCause, ReleaseState};
use jiff::{Timestamp, TimestampRound, Unit};
use store::account::Account;
use store::app::App;
use store::build::Build;
use store::dyno::Dyno;
use store::formation::Formation;
use store::release::Release;
use store::slug::Slug;
use uuid::Uuid;
use wire::platform_api as heroku;

use crate::error::{ApiError, ApiResult};
use crate::origin::Origin;
use crate::state::ApiState;
use crate::streams;

/// The one region has a fixed id: its name never changes meaning.
const REGION_ID: Uuid = Uuid::from_u128(0x6265_7274_6800_4000_8000_7265_6769_6f6e);
/// Heroku's word for the platform without containers of one's own.
pub(crate) const CEDAR: (Uuid, &str) = (Uuid::from_u128(0x6265_7274_6800_4000_8000_0000_6365_6461), "cedar");

/// How long an output URL in an answer may be used.
const OUTPUT_URL_VALID: Duration = Duration::from_secs(24 * 60 * 60);

/// Heroku's times have whole seconds: `2012-01-01T12:00:00Z`.
pub(crate) fn time(at: Timestamp) -> String {
    let round = TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc);
    at.round(round).unwrap_or(at).to_string()
}

pub(crate) fn account(account: &Account, two_factor: bool) -> heroku::Account {
    heroku::Account {
        allow_tracking: false,
        beta: false,
        country_of_residence: None,
        created_at: time(account.created_at),
        default_organization: None,
        default_team: None,
        delinquent_at: None,
        email: account.email.clone(),
        federated: false,
        id: account.id.uuid(),
        identity_provider: None,
        last_login: None,
        name: None,
        sms_number: None,
        suspended_at: None,
        two_factor_authentication: two_factor,
        updated_at: time(account.created_at),
        verified: true,
    }
}

pub(crate) fn stack() -> heroku::IdName {
    let name = shim::host::stack();
    heroku::IdName { id: named_id("stack", name), name: name.to_owned() }
}

pub(crate) fn region() -> heroku::IdName {
    heroku::IdName { id: REGION_ID, name: "local".to_owned() }
}

pub(crate) fn cedar() -> heroku::Generation {
    heroku::Generation::Named { id: CEDAR.0, name: CEDAR.1.to_owned() }
}

pub(crate) fn app(state: &ApiState, origin: &Origin, app: &App) -> ApiResult<heroku::App> {
    let owner = user(state, app.owner)?;
    let slug = current_slug(state, app.id)?;
    Ok(heroku::App {
        acm: app.acm,
        archived_at: None,
        build_stack: stack(),
        buildpack_provided_description: slug.as_ref().and_then(|slug| slug.language.clone()),
        created_at: time(app.created_at),
        generation: cedar(),
        // git speaks HTTPS only to Heroku's helper; the port sniffs.
        git_url: format!("https://{}/{}.git", origin.authority, app.name),
        id: app.id.uuid(),
        internal_routing: None,
        maintenance: app.maintenance,
        name: app.name.to_string(),
        organization: None,
        owner,
        region: region(),
        released_at: app.released_at.map(time),
        repo_size: None,
        slug_size: slug.map(|slug| slug.size_bytes),
        space: None,
        stack: stack(),
        team: None,
        updated_at: time(app.updated_at),
        web_url: Some(state.web_url(app.name.as_str())),
    })
}

pub(crate) fn user(state: &ApiState, id: domain::id::AccountId) -> ApiResult<heroku::UserRef> {
    let account = state.store.account(id)?.ok_or_else(|| ApiError::not_found("account"))?;
    Ok(heroku::UserRef { id: account.id.uuid(), email: account.email })
}

pub(crate) fn app_ref(app: &App) -> heroku::IdName {
    heroku::IdName { id: app.id.uuid(), name: app.name.to_string() }
}

/// The slug of the release that serves, or of the newest one that has not failed.
pub(crate) fn current_slug(state: &ApiState, app: AppId) -> ApiResult<Option<Slug>> {
    let releases = state.store.releases(app)?;
    let serving = releases.iter().find(|release| release.state == ReleaseState::Serving && release.slug.is_some());
    let newest = || {
        releases.iter().rev().find(|release| {
            release.slug.is_some() && !matches!(release.state, ReleaseState::Failed | ReleaseState::Held)
        })
    };
    let id = serving.or_else(newest).and_then(|release| release.slug);
    Ok(id.map(|id| state.store.slug(id)).transpose()?.flatten())
}

pub(crate) fn formation(app: &App, slug: Option<&Slug>, formation: &Formation) -> heroku::Formation {
    let entry = &formation.entry;
    let command = slug.and_then(|slug| slug.command(&entry.process_type)).unwrap_or("");
    heroku::Formation {
        app: app_ref(app),
        command: command.to_owned(),
        created_at: time(formation.created_at),
        dyno_size: heroku::IdName { id: size_id(&entry.size), name: entry.size.clone() },
        id: formation.id,
        quantity: entry.quantity,
        size: entry.size.clone(),
        process_type: entry.process_type.to_string(),
        updated_at: time(formation.updated_at),
    }
}

/// A stable id for a dyno size, from its name.
pub(crate) fn size_id(name: &str) -> Uuid {
    named_id("dyno-size", name)
}

/// A stable id for what has a name but no row.
pub(crate) fn named_id(kind: &str, name: &str) -> Uuid {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{kind} {name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

pub(crate) fn dyno(app: &App, dyno: &Dyno, releases: &[Release]) -> heroku::Dyno {
    let release = dyno.release.and_then(|id| releases.iter().find(|release| release.id == id));
    heroku::Dyno {
        app: app_ref(app),
        attach_url: None,
        command: dyno.command.clone(),
        created_at: time(dyno.created_at),
        id: dyno.id.uuid(),
        name: dyno.name.to_string(),
        release: heroku::ReleaseRef {
            id: release.map_or_else(Uuid::nil, |release| release.id.uuid()),
            version: release.map_or(0, |release| release.version),
        },
        size: dyno.size.clone(),
        state: dyno.state.heroku_word().to_owned(),
        process_type: dyno.name.process_type.to_string(),
        updated_at: time(dyno.since),
    }
}

pub(crate) fn output_url(state: &ApiState, origin: &Origin, stream: Uuid) -> String {
    // The same for an hour, or no answer that holds one would ever be the same.
    let hour = state.now().round(TimestampRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Trunc));
    let holder = origin.holder.map(|holder| holder.to_string());
    let what = streams::signed_text(stream, holder.as_deref());
    let query = state.signer.query(&what, OUTPUT_URL_VALID, hour.unwrap_or(state.now()));
    let holder = holder.map(|holder| format!("&for={holder}")).unwrap_or_default();
    format!("{}/berth/streams/{stream}?{query}{holder}", origin.base)
}

pub(crate) fn build(state: &ApiState, origin: &Origin, build: &Build) -> ApiResult<heroku::Build> {
    let url = match &build.source {
        store::build::SourceLocation::Url(url) => url.clone(),
        store::build::SourceLocation::Uploaded(id) => format!("{}/berth/sources/{id}", origin.base),
    };
    let packs =
        build.buildpacks.iter().map(|name| heroku::BuildpackRef { name: Some(name.clone()), url: Some(name.clone()) });
    Ok(heroku::Build {
        app: heroku::IdOnly { id: build.app.uuid() },
        buildpacks: Some(packs.collect()),
        created_at: time(build.created_at),
        generation: "cedar".to_owned(),
        id: build.id.uuid(),
        output_stream_url: output_url(state, origin, build.id.uuid()),
        release: build.release.map(|id| heroku::IdOnly { id: id.uuid() }),
        slug: build.slug.map(|id| heroku::IdOnly { id: id.uuid() }),
        source_blob: heroku::SourceBlob {
            checksum: None,
            url,
            version: build.source_version.clone(),
            version_description: None,
        },
        stack: stack().name,
        status: match build.status {
            // Heroku has no word for it; its clients know only these three.
            store::build::BuildStatus::Canceled => "failed",
            other => other.as_str(),
        }
        .to_owned(),
        updated_at: time(build.updated_at),
        user: user(state, build.account)?,
    })
}

pub(crate) fn release(state: &ApiState, origin: &Origin, app: &App, release: &Release) -> ApiResult<heroku::Release> {
    let ran = matches!(release.state, ReleaseState::Serving | ReleaseState::Superseded);
    let has_output = state.logs.exists(release.id.uuid());
    Ok(heroku::Release {
        addon_plan_names: release.add_on_plans.clone(),
        app: app_ref(app),
        artifacts: Vec::new(),
        created_at: time(release.created_at),
        current: release.state == ReleaseState::Serving,
        description: release.description.clone(),
        eligible_for_rollback: ran && release.slug.is_some(),
        id: release.id.uuid(),
        output_stream_url: has_output.then(|| output_url(state, origin, release.id.uuid())),
        slug: release.slug.map(|id| heroku::IdOnly { id: id.uuid() }),
        status: release.state.heroku_word().to_owned(),
        updated_at: time(release.updated_at),
        user: user(state, release.account)?,
        version: release.version,
    })
}

/// The name of a one-off dyno: `run.` and four digits, as Heroku has it.
pub(crate) fn one_off_name(process_type: &ProcessType, random: Uuid) -> DynoName {
    let number = u32::from(random.as_fields().1) % 9000 + 1000;
    DynoName { process_type: process_type.clone(), index: number }
}

/// Whether a release is one that code can run from.
pub(crate) fn is_runnable(release: &Release) -> bool {
    release.slug.is_some() && release.cause != ReleaseCause::Initial
}
