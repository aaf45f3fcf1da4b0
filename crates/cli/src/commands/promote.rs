//! `pipelines:promote`: the code that one app serves, released in the apps of the next stage.

use anyhow::{Context as _, bail};
use uuid::Uuid;
use wire::platform_api::pipelines::{PipelineCoupling, Promotion, PromotionTarget};

use crate::api_client::{ApiClient, path};
use crate::context::Context;
use crate::follow;
use crate::output::Colour;
use crate::progress::Progress;

/// The stages that code moves through.
const ORDER: [&str; 3] = ["development", "staging", "production"];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: berth pipelines:promote -a shop-staging\n\n\
                  What the app serves is released in every app of the next stage, each with its own config and its own\n\
                  release phase. The exit code is 0 only when all of them serve it.")]
pub struct Promote {}

pub(super) fn promote(context: &Context, _args: &Promote) -> anyhow::Result<()> {
    let (client, app) = context.app()?;
    let targets = to_next_stage(context, &client, &app)?;
    if context.out.json {
        context.out.json(&targets)?;
    }
    Ok(())
}

/// Promotes and waits until all targets serve; a failure of any is an error.
pub(super) fn to_next_stage(context: &Context, client: &ApiClient, app: &str) -> anyhow::Result<Vec<PromotionTarget>> {
    let coupling: PipelineCoupling = client
        .get(&path(&["apps", app, "pipeline-couplings"]))
        .with_context(|| format!("{app} cannot be promoted: is it in a pipeline?"))?;
    let Some(next) = ORDER.iter().position(|stage| *stage == coupling.stage).and_then(|at| ORDER.get(at + 1)) else {
        bail!("{app} is in the stage {}, after which nothing comes", coupling.stage)
    };
    let pipeline = coupling.pipeline.id;
    let all: Vec<PipelineCoupling> =
        client.list(&path(&["pipelines", &pipeline.to_string(), "pipeline-couplings"]), None)?;
    let targets: Vec<Uuid> = all.iter().filter(|other| other.stage == *next).map(|other| other.app.id).collect();
    if targets.is_empty() {
        bail!("no app is in the stage {next}, so there is nothing to promote {app} to")
    }
    let body = serde_json::json!({
        "pipeline": {"id": pipeline},
        "source": {"app": {"id": coupling.app.id}},
        "targets": targets.iter().map(|id| serde_json::json!({"app": {"id": id}})).collect::<Vec<_>>(),
    });
    let promotion: Promotion = client.post("/pipeline-promotions", &body)?;
    context.out.note(format_args!("Promoting {app} to {next}"));
    let waiting = Progress::start("Waiting until the promoted release serves");
    let url = path(&["pipeline-promotions", &promotion.id.to_string(), "promotion-targets"]);
    let ended = follow::until_some(|| {
        let targets: Vec<PromotionTarget> = client.get(&url)?;
        Ok(targets.iter().all(|target| target.status != "pending").then_some(targets))
    })?;
    drop(waiting);
    let failed: Vec<&PromotionTarget> = ended.iter().filter(|target| target.status != "succeeded").collect();
    for target in &failed {
        context.out.warn(target.error_message.as_deref().unwrap_or("a target failed"));
    }
    if !failed.is_empty() {
        bail!("{} of {} apps did not take the promotion; what they served before goes on", failed.len(), ended.len());
    }
    if !context.out.json {
        context.out.line(format_args!("{next}: {}", context.out.paint(Colour::Green, "serving")))?;
    }
    Ok(ended)
}
