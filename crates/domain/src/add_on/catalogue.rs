//! The add-on services that this server has, and who provides them: the one table.
//!
//! A provider decides what becomes of options and plans. One that cannot answer at once says so, and the add-on is
//! `provisioning` until whoever acts on the world reports what came of it.

use thiserror::Error;

use crate::add_on::attachment_name::Family;
use crate::add_on::custom::Custom;
use crate::add_on::{Changes, Options, Values};

#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    pub name: &'static str,
    pub human_name: &'static str,
    /// What names of its add-ons begin with.
    pub stem: &'static str,
    pub plans: &'static [Plan],
    /// For people: what it is, how it is made and changed.
    pub about: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Behind the colon: `external`.
    pub name: &'static str,
    pub human_name: &'static str,
    pub description: &'static str,
}

impl Service {
    /// What somebody gets who names no plan.
    pub fn default_plan(&self) -> Option<&'static Plan> {
        self.plans.first()
    }

    /// `berth-custom:external`.
    pub fn full_name(&self, plan: &Plan) -> String {
        format!("{}:{}", self.name, plan.name)
    }
}

/// What is known of a new add-on when it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provision {
    /// It is there.
    Done(Values),
    /// Somebody has to make it, as ordered; it will have values of these names then.
    Later { order: Values, values: &'static [&'static str] },
}

/// Why an add-on cannot be made or changed as it was asked for. Whole sentences, without any value.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ProvisionError(pub String);

/// What differs between services.
pub trait Provider: Sync {
    fn service(&self) -> &'static Service;

    /// Reads the options of a new add-on.
    fn provision(&self, plan: &Plan, options: &Options) -> Result<Provision, ProvisionError>;

    /// How attachments are named that nobody has named.
    fn family(&self, values: &Values) -> Family;

    /// The values after somebody changed some.
    fn update(&self, current: &Values, changes: &Changes) -> Result<Values, ProvisionError>;

    /// Whether nothing of an add-on is left once its row is gone.
    fn is_destroyed_at_once(&self) -> bool;
}

const PROVIDERS: [&dyn Provider; 1] = [&Custom];

pub fn providers() -> impl Iterator<Item = &'static dyn Provider> {
    PROVIDERS.into_iter()
}

pub fn provider(service: &str) -> Option<&'static dyn Provider> {
    providers().find(|provider| provider.service().name == service)
}

/// Finds a plan by `service:plan`, or a service's default plan by its name alone.
pub fn find_plan(name: &str) -> Option<(&'static dyn Provider, &'static Plan)> {
    let (service, plan) = name.split_once(':').map_or((name, None), |(service, plan)| (service, Some(plan)));
    let provider = provider(service)?;
    let plan = match plan {
        Some(wanted) => provider.service().plans.iter().find(|plan| plan.name == wanted),
        None => provider.service().default_plan(),
    };
    Some((provider, plan?))
}

/// What to do instead, for somebody who asks for a plan that is not here.
pub fn alternative(wanted: &str) -> String {
    let (service, _plan) = wanted.split_once(':').unwrap_or((wanted, ""));
    if let Some(provider) = provider(service) {
        let service = provider.service();
        let plans: Vec<String> = service.plans.iter().map(|plan| service.full_name(plan)).collect();
        // Compat: the beginning is what makes Heroku's client list the plans.
        return format!(
            "Couldn't find either the add-on service or the add-on plan of {wanted:?}. {} has: {}.",
            service.name,
            plans.join(", ")
        );
    }
    let attach = |what: &str, name: &str, scheme: &str| {
        format!("Run {what} yourself, then: `heroku addons:create berth-custom --as {name} -- --url={scheme}://…`.")
    };
    let has = |part: &str| service.contains(part);
    let instead = if has("postgres") {
        attach("Postgres", "DATABASE", "postgres")
    } else if has("redis") || has("valkey") || has("key-value") {
        attach("Redis", "REDIS", "redis")
    } else if has("mysql") || has("mariadb") || has("cleardb") || has("jawsdb") {
        attach("the database", "DATABASE", "mysql")
    } else if has("amqp") || has("rabbit") {
        attach("the broker", "CLOUDAMQP", "amqp")
    } else if has("kafka") {
        attach("Kafka", "KAFKA", "kafka+ssl")
    } else if has("scheduler") || has("cron") {
        "Jobs on a schedule are part of the server: `berth cron:add`, or `cron` in app.json.".to_owned()
    } else if has("papertrail") || has("logentries") || has("coralogix") || has("mezmo") || has("logdna") {
        "Send the app's log to the service itself: `heroku drains:add URL`.".to_owned()
    } else if has("autoscal") {
        "Set the number of dynos with `heroku ps:scale`.".to_owned()
    } else {
        "Make an account with the service itself, and attach its address: \
         `heroku addons:create berth-custom --as NAME -- --url=…`."
            .to_owned()
    };
    format!("Couldn't find either the add-on service or the add-on plan of {wanted:?}: it is not here. {instead}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::add_on::AddOnName;

    #[test]
    fn every_service_is_found_by_its_name_and_its_plans() {
        for provider in providers() {
            let service = provider.service();
            let default = service.default_plan().unwrap();
            assert!(find_plan(service.name).is_some_and(|(_provider, plan)| plan == default));
            for plan in service.plans {
                assert!(find_plan(&service.full_name(plan)).is_some_and(|(_provider, found)| found == plan));
            }
            AddOnName::parse(AddOnName::drawn(service.stem, 0).as_str()).unwrap();
        }
        assert!(find_plan("berth-custom:huge").is_none());
        assert!(find_plan("heroku-redis").is_none());
    }

    #[test]
    fn what_is_not_here_has_an_alternative() {
        for (wanted, expect) in [
            ("heroku-redis:mini", "--as REDIS -- --url=redis://"),
            ("heroku-postgresql", "--as DATABASE -- --url=postgres://"),
            ("scheduler:standard", "berth cron:add"),
            ("papertrail", "drains:add"),
            ("sendgrid", "--as NAME"),
            ("berth-custom:huge", "berth-custom has: berth-custom:external"),
        ] {
            let text = alternative(wanted);
            assert!(text.contains(expect) && text.contains(wanted), "{text}");
        }
    }
}
