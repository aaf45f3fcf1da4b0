//! The stages of a pipeline side by side: code, config vars, formation, and what differs; as far as the asker may see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use domain::access::Permission;
use domain::id::AddOnId;
use domain::release::ReleaseState;
use store::add_on::AddOn;
use store::app::App;
use wire::platform_api::environments as ours;

use crate::auth::Actor;
use crate::error::ApiResult;
use crate::pipelines;
use crate::present;
use crate::state::ApiState;

pub(crate) async fn compare(
    State(state): State<Arc<ApiState>>,
    actor: Actor,
    Path(wanted): Path<String>,
) -> ApiResult<Json<ours::Comparison>> {
    let pipeline = pipelines::find(&state, &wanted)?;
    let mut couplings = state.store.pipeline_couplings()?;
    couplings.retain(|coupling| coupling.pipeline == pipeline.id);
    couplings.sort_by_key(|coupling| coupling.stage);
    let mut apps = Vec::new();
    for coupling in &couplings {
        if let Some(app) = state.store.app(coupling.app)?
            && actor.may(&state, &app, Permission::View)?
        {
            apps.push((app, coupling.stage));
        }
    }
    let shown = apps.iter().map(|(app, stage)| compared_app(&state, app, stage.as_str()));
    let shown: Vec<ours::ComparedApp> = shown.collect::<ApiResult<_>>()?;
    let slugs: BTreeSet<&Option<String>> = shown.iter().map(|app| &app.slug).collect();
    let same_code = slugs.len() <= 1;
    let apps: Vec<&App> = apps.iter().map(|(app, _stage)| app).collect();
    // Whoever sets a config var of one app could find out another one's by trying.
    let mut operated = Vec::new();
    for app in &apps {
        if actor.may(&state, app, Permission::Operate)? {
            operated.push(*app);
        }
    }
    Ok(Json(ours::Comparison {
        pipeline: pipeline.name,
        same_code,
        config: compared_config(&state, &operated)?,
        formation: compared_formation(&state, &apps)?,
        add_ons: compared_add_ons(&state, &apps)?,
        apps: shown,
    }))
}

fn compared_app(state: &ApiState, app: &App, stage: &str) -> ApiResult<ours::ComparedApp> {
    let live = state.store.live_releases(app.id)?;
    let serving = live.iter().rev().find(|release| release.state == ReleaseState::Serving && release.slug.is_some());
    let slug = serving.and_then(|release| release.slug).map(|id| state.store.slug(id)).transpose()?.flatten();
    Ok(ours::ComparedApp {
        name: app.name.to_string(),
        stage: stage.to_owned(),
        release_version: serving.map(|release| release.version),
        commit: slug.as_ref().and_then(|slug| slug.commit.clone()),
        slug: slug.and_then(|slug| slug.sha256),
        released_at: serving.map(|release| present::time(release.created_at)),
    })
}

/// Equal values get the same letter, in the order of the apps. Nothing of a value itself is told, not even its length.
fn compared_config(state: &ApiState, apps: &[&App]) -> ApiResult<Vec<ours::ComparedConfigVar>> {
    let mut by_key: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for app in apps {
        for (key, value) in state.store.environment(app.id)? {
            by_key.entry(key.to_string()).or_default().push((app.name.to_string(), value.into_exposed()));
        }
    }
    let compared = by_key.into_iter().map(|(key, values)| {
        let differs = differs(&values, apps.len());
        let mut seen: Vec<&String> = Vec::new();
        let mut letters = BTreeMap::new();
        for (app, value) in &values {
            let place = seen.iter().position(|other| *other == value).unwrap_or_else(|| {
                seen.push(value);
                seen.len() - 1
            });
            letters.insert(app.clone(), letter(place));
        }
        ours::ComparedConfigVar { key, values: letters, differs }
    });
    Ok(compared.collect())
}

/// The same add-on gets the same letter, so that one which two stages share is seen.
fn compared_add_ons(state: &ApiState, apps: &[&App]) -> ApiResult<Vec<ours::ComparedAttachment>> {
    let mut by_name: BTreeMap<String, Vec<(String, AddOn)>> = BTreeMap::new();
    for app in apps {
        for attachment in state.store.attachments_of_app(app.id)? {
            if let Some(add_on) = state.store.add_on(attachment.add_on)? {
                by_name.entry(attachment.name.to_string()).or_default().push((app.name.to_string(), add_on));
            }
        }
    }
    let compared = by_name.into_iter().map(|(attachment, add_ons)| {
        let plans: Vec<(String, String)> =
            add_ons.iter().map(|(app, add_on)| (app.clone(), add_on.full_plan())).collect();
        let mut seen: Vec<AddOnId> = Vec::new();
        let mut values = BTreeMap::new();
        for (app, add_on) in add_ons {
            let place = seen.iter().position(|id| *id == add_on.id).unwrap_or_else(|| {
                seen.push(add_on.id);
                seen.len() - 1
            });
            values.insert(app, format!("{} {}", add_on.full_plan(), letter(place)));
        }
        ours::ComparedAttachment { attachment, values, differs: differs(&plans, apps.len()) }
    });
    Ok(compared.collect())
}

/// `A` to `Z`, then `A1` and so on.
fn letter(place: usize) -> String {
    let letter = char::from(b'A' + u8::try_from(place % 26).unwrap_or(0));
    if place < 26 { letter.to_string() } else { format!("{letter}{}", place / 26) }
}

fn compared_formation(state: &ApiState, apps: &[&App]) -> ApiResult<Vec<ours::ComparedProcessType>> {
    let mut by_type: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for app in apps {
        for row in state.store.formation(app.id)? {
            let entry = &row.entry;
            let text = format!("{} × {}", entry.quantity, entry.size);
            by_type.entry(entry.process_type.to_string()).or_default().push((app.name.to_string(), text));
        }
    }
    let compared = by_type.into_iter().map(|(process_type, values)| ours::ComparedProcessType {
        process_type,
        differs: differs(&values, apps.len()),
        values: values.into_iter().collect(),
    });
    Ok(compared.collect())
}

fn differs(values: &[(String, String)], apps: usize) -> bool {
    let distinct: BTreeSet<&String> = values.iter().map(|(_app, value)| value).collect();
    values.len() != apps || distinct.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_go_on_after_z() {
        assert_eq!([letter(0), letter(25), letter(26), letter(53)], ["A", "Z", "A1", "B2"]);
    }
}
