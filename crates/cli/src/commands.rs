//! The commands, one file per topic.

use std::process::ExitCode;

use clap::Subcommand;

use crate::context::Context;

pub use shell_completions::Completions;

mod access;
mod addons;
mod app_transfers;
mod apps;
mod concurrency;
mod config;
mod cron;
mod cron_import;
mod deploy;
mod dns;
mod domains;
mod env_clone;
mod exec;
mod forward;
mod git_access;
mod health;
mod heroku;
mod logs;
mod notify;
mod people;
mod pipelines;
mod promote;
mod ps;
mod releases;
mod routing;
mod run;
mod second_factor;
mod server;
mod shell_completions;
mod traffic;

/// Everything that speaks to a server, in Heroku's grammar.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create an app
    #[command(name = "create", visible_alias = "apps:create", display_order = 1)]
    Create(apps::Create),
    /// List the apps
    #[command(name = "apps", alias = "list", after_help = "Example: berth apps --json", display_order = 1)]
    Apps,
    /// Show an app's addresses, owner and sizes
    #[command(
        name = "apps:info",
        visible_alias = "info",
        after_help = "Example: berth apps:info -a shop",
        display_order = 1
    )]
    AppsInfo,
    #[command(flatten)]
    AppTransfers(app_transfers::AppTransfers),
    /// Destroy an app with everything in it
    #[command(name = "apps:destroy", visible_alias = "destroy", display_order = 1)]
    AppsDestroy(apps::Destroy),
    /// Make a new app like another one
    #[command(name = "env:clone", display_order = 1)]
    EnvClone(env_clone::Clone),
    /// Open the app in a browser
    #[command(
        name = "open",
        visible_alias = "apps:open",
        after_help = "Example: berth open -a shop",
        display_order = 1
    )]
    Open,
    /// Build and release a directory
    #[command(name = "deploy", display_order = 2)]
    Deploy(deploy::Deploy),
    /// Release what an app serves in the next stage
    #[command(name = "pipelines:promote", display_order = 2)]
    PipelinesPromote(promote::Promote),
    /// Show the stages of a pipeline side by side
    #[command(name = "pipelines:compare", display_order = 2)]
    PipelinesCompare(pipelines::Compare),
    /// Give a pipeline to somebody else
    #[command(name = "pipelines:transfer", display_order = 2)]
    PipelinesTransfer(pipelines::Transfer),
    /// Show or say who may deploy to a stage, and when
    #[command(name = "pipelines:protect", display_order = 2)]
    PipelinesProtect(pipelines::Protect),
    /// Let nothing be deployed to a stage, and say why
    #[command(name = "pipelines:lock", display_order = 2)]
    PipelinesLock(pipelines::Lock),
    /// Take the lock off a stage
    #[command(name = "pipelines:unlock", display_order = 2)]
    PipelinesUnlock(pipelines::Unlock),
    /// Show the releases, newest first
    #[command(name = "releases", display_order = 2)]
    Releases(releases::List),
    /// Show one release and how far it is
    #[command(name = "releases:info", display_order = 2)]
    ReleasesInfo(releases::Which),
    /// Show the output of a release phase
    #[command(name = "releases:output", after_help = "Example: berth releases:output v12", display_order = 2)]
    ReleasesOutput(releases::Which),
    /// Serve a release that was built with --hold
    #[command(name = "releases:resume", display_order = 2)]
    ReleasesResume(releases::Resume),
    /// Go back to an earlier release
    #[command(name = "rollback", visible_alias = "releases:rollback", display_order = 2)]
    Rollback(releases::Rollback),
    /// Show the config vars
    #[command(name = "config", display_order = 3)]
    Config(config::List),
    /// Print one config var
    #[command(name = "config:get", display_order = 3)]
    ConfigGet(config::Get),
    /// Set config vars and restart with them
    #[command(name = "config:set", alias = "config:add", display_order = 3)]
    ConfigSet(config::Set),
    /// Remove config vars and restart without them
    #[command(name = "config:unset", alias = "config:remove", display_order = 3)]
    ConfigUnset(config::Unset),
    /// Set config vars from a .env file
    #[command(name = "config:import", display_order = 3)]
    ConfigImport(config::Import),
    /// Show the add-ons
    #[command(name = "addons", display_order = 3)]
    Addons(addons::List),
    /// List the services that add-ons can be of
    #[command(name = "addons:services", after_help = "Example: berth addons:services", display_order = 3)]
    AddonsServices,
    /// List the plans of a service
    #[command(name = "addons:plans", display_order = 3)]
    AddonsPlans(addons::Plans),
    /// Make an add-on and attach it
    #[command(name = "addons:create", visible_alias = "addons:add", display_order = 3)]
    AddonsCreate(addons::Create),
    /// Show an add-on and who has it
    #[command(name = "addons:info", after_help = "Example: berth addons:info custom-round-12345", display_order = 3)]
    AddonsInfo(addons::Which),
    /// Give an add-on to another app
    #[command(name = "addons:attach", display_order = 3)]
    AddonsAttach(addons::Attach),
    /// Take an add-on away from an app
    #[command(name = "addons:detach", display_order = 3)]
    AddonsDetach(addons::Detach),
    /// Change what an add-on gives, in every app that has it
    #[command(name = "addons:update", display_order = 3)]
    AddonsUpdate(addons::Update),
    /// Give an add-on another name
    #[command(name = "addons:rename", display_order = 3)]
    AddonsRename(addons::Rename),
    /// Wait until an add-on is made
    #[command(name = "addons:wait", after_help = "Example: berth addons:wait custom-round-12345", display_order = 3)]
    AddonsWait(addons::Which),
    /// Destroy an add-on
    #[command(name = "addons:destroy", visible_alias = "addons:remove", display_order = 3)]
    AddonsDestroy(addons::Destroy),
    /// Show the dynos
    #[command(name = "ps", after_help = "Example: berth ps -a shop", display_order = 4)]
    Ps,
    /// Set how many dynos run, and their size
    #[command(name = "ps:scale", visible_alias = "scale", display_order = 4)]
    PsScale(ps::Scale),
    /// Set the size of dynos
    #[command(name = "ps:type", visible_alias = "ps:resize", display_order = 4)]
    PsType(ps::Type),
    /// Show or declare how many requests a web dyno may have at once
    #[command(name = "ps:concurrency", display_order = 4)]
    PsConcurrency(concurrency::Concurrency),
    /// Replace dynos by new ones, without losing a request
    #[command(name = "ps:restart", visible_alias = "restart", display_order = 4)]
    PsRestart(ps::Restart),
    /// Stop a dyno or a process type
    #[command(name = "ps:stop", alias = "ps:kill", display_order = 4)]
    PsStop(ps::Stop),
    /// Open a shell in a dyno that runs, or run a command there
    #[command(name = "ps:exec", display_order = 4)]
    PsExec(exec::Exec),
    /// Copy a file out of a dyno that runs
    #[command(name = "ps:copy", display_order = 4)]
    PsCopy(exec::Copy),
    /// Lead ports of this machine to a dyno that runs
    #[command(name = "ps:forward", display_order = 4)]
    PsForward(forward::Forward),
    /// Start a SOCKS proxy here whose connections come from a dyno that runs
    #[command(name = "ps:socks", display_order = 4)]
    PsSocks(forward::Socks),
    /// Run a command in a one-off dyno
    #[command(name = "run", display_order = 4)]
    Run(run::Run),
    /// Show the log
    #[command(name = "logs", display_order = 4)]
    Logs(logs::Logs),
    /// Show the jobs that run on a schedule
    #[command(name = "cron", after_help = "Example: berth cron -a shop", display_order = 5)]
    Cron,
    /// Run a command on a schedule
    #[command(name = "cron:add", display_order = 5)]
    CronAdd(cron::Add),
    /// Remove a job
    #[command(name = "cron:remove", display_order = 5)]
    CronRemove(cron::Which),
    /// Run a job now
    #[command(name = "cron:run", display_order = 5)]
    CronRun(cron::Start),
    /// Let a job's schedule start nothing
    #[command(name = "cron:pause", display_order = 5)]
    CronPause(cron::Which),
    /// Let a paused job go on
    #[command(name = "cron:resume", display_order = 5)]
    CronResume(cron::Which),
    /// Show what the last runs did
    #[command(name = "cron:history", display_order = 5)]
    CronHistory(cron::History),
    /// Show the output of a run
    #[command(name = "cron:logs", display_order = 5)]
    CronLogs(cron::Logs),
    /// Take over jobs from Heroku Scheduler, paused
    #[command(name = "cron:import", display_order = 5)]
    CronImport(cron_import::Import),
    /// Show who is told about the app
    #[command(name = "notify", after_help = "Example: berth notify -a shop", display_order = 5)]
    Notify,
    /// Send messages about the app to Slack or to a webhook
    #[command(name = "notify:add", display_order = 5)]
    NotifyAdd(notify::Add),
    /// Send no more messages there
    #[command(name = "notify:remove", display_order = 5)]
    NotifyRemove(notify::Remove),
    /// Show whether maintenance mode is on
    #[command(name = "maintenance", after_help = "Example: berth maintenance -a shop", display_order = 5)]
    Maintenance,
    /// Answer every request with the maintenance page
    #[command(name = "maintenance:on", after_help = "Example: berth maintenance:on -a shop", display_order = 5)]
    MaintenanceOn,
    /// Serve requests again
    #[command(name = "maintenance:off", after_help = "Example: berth maintenance:off -a shop", display_order = 5)]
    MaintenanceOff,
    /// Show how the app's requests are handled
    #[command(name = "routing", after_help = "Example: berth routing -a shop", display_order = 5)]
    Routing,
    /// Change how the app's requests are handled
    #[command(name = "routing:set", display_order = 5)]
    RoutingSet(routing::Set),
    /// Handle the app's requests as by default
    #[command(name = "routing:unset", display_order = 5)]
    RoutingUnset(routing::Unset),
    /// Set, print or clear a page of the app's own, for maintenance or errors
    #[command(name = "routing:page", display_order = 5)]
    RoutingPage(routing::PageArgs),
    /// Show how web dynos are checked while they serve, and how they are
    #[command(name = "health", after_help = "Example: berth health -a shop", display_order = 4)]
    Health,
    /// Check web dynos while they serve
    #[command(name = "health:set", display_order = 4)]
    HealthSet(health::Set),
    /// Check web dynos no longer
    #[command(name = "health:off", after_help = "Example: berth health:off -a shop", display_order = 4)]
    HealthOff,
    /// Show whether the app's requests are held
    #[command(name = "traffic", after_help = "Example: berth traffic -a shop", display_order = 5)]
    Traffic,
    /// Hold new requests for a while
    #[command(name = "traffic:pause", display_order = 5)]
    TrafficPause(traffic::Pause),
    /// Serve the requests that are held, and new ones
    #[command(name = "traffic:resume", after_help = "Example: berth traffic:resume -a shop", display_order = 5)]
    TrafficResume,
    /// Show the domains, and where their requests go
    #[command(name = "domains", after_help = "Example: berth domains -a shop", display_order = 5)]
    Domains,
    /// Add a domain
    #[command(name = "domains:add", display_order = 5)]
    DomainsAdd(domains::Add),
    /// Remove a domain
    #[command(name = "domains:remove", display_order = 5)]
    DomainsRemove(domains::Remove),
    /// Pass a domain's requests on to the old host, before the app moves in
    #[command(name = "domains:front", display_order = 5)]
    DomainsFront(domains::Front),
    /// Make a git remote, so that `git push` deploys
    #[command(
        name = "git:remote",
        after_help = "Example: berth git:remote -a shop\n\n\
        --remote names it otherwise than `berth`. Only this repository's configuration is changed.",
        display_order = 6
    )]
    GitRemote,
    /// Answer git's question for a password (git calls this)
    #[command(name = "git:credentials", hide = true)]
    GitCredentials(git_access::Credentials),
    /// Run the real `heroku` client against this server
    #[command(name = "heroku", display_order = 6)]
    Heroku(heroku::Heroku),
    /// Print what leads the real `heroku` client to this server, for `eval`
    #[command(name = "heroku:env", display_order = 6)]
    HerokuEnv(heroku::Env),
    /// Store a token for a server
    #[command(name = "login", visible_alias = "auth:login", display_order = 7)]
    Login(access::Login),
    /// Show who you are to the server
    #[command(name = "account", visible_aliases = ["whoami", "auth:whoami"], after_help = "Example: berth account", display_order = 7)]
    Account,
    /// List your tokens
    #[command(name = "tokens", after_help = "Example: berth tokens", display_order = 7)]
    Tokens,
    /// Make a token, for another machine or for CI
    #[command(name = "tokens:create", display_order = 7)]
    TokensCreate(access::Create),
    /// End a token
    #[command(name = "tokens:revoke", display_order = 7)]
    TokensRevoke(access::Revoke),
    /// List the DNS zones that the server may change for certificates
    #[command(name = "certs:dns", after_help = "Example: berth certs:dns", display_order = 7)]
    Dns,
    /// Let the server change a DNS zone, so that wildcard certificates can be ordered
    #[command(name = "certs:dns:add", display_order = 7)]
    DnsAdd(dns::Add),
    /// Forget a DNS zone and its credentials
    #[command(name = "certs:dns:remove", display_order = 7)]
    DnsRemove(dns::Remove),
    /// Show whether tokens need a code of an authenticator app
    #[command(name = "2fa", after_help = "Example: berth 2fa", display_order = 7)]
    TwoFactor,
    /// Ask for a code of an authenticator app wherever a token is made
    #[command(name = "2fa:enable", after_help = "Example: berth 2fa:enable", display_order = 7)]
    TwoFactorEnable,
    /// Ask for codes no longer
    #[command(name = "2fa:disable", after_help = "Example: berth 2fa:disable", display_order = 7)]
    TwoFactorDisable,
    /// Show a code for an app that asks for one: this token may change it for ten minutes
    #[command(name = "2fa:authorize", after_help = "Example: berth 2fa:authorize -a shop", display_order = 7)]
    TwoFactorAuthorize,
    /// Show who may do what with an app
    #[command(name = "access", after_help = "Example: berth access -a shop", display_order = 7)]
    Access,
    /// Let somebody into an app
    #[command(name = "access:add", visible_alias = "sharing:add", display_order = 7)]
    AccessAdd(people::AccessAdd),
    /// Change what somebody may do with an app
    #[command(name = "access:update", display_order = 7)]
    AccessUpdate(people::AccessUpdate),
    /// Take somebody's access to an app away
    #[command(name = "access:remove", visible_alias = "sharing:remove", display_order = 7)]
    AccessRemove(people::AccessRemove),
    /// List the people of the server
    #[command(name = "people", after_help = "Example: berth people --json", display_order = 8)]
    People,
    /// Invite somebody to the server
    #[command(name = "people:add", visible_alias = "people:invite", display_order = 8)]
    PeopleAdd(people::PeopleAdd),
    /// Make somebody an administrator, or no longer
    #[command(name = "people:update", display_order = 8)]
    PeopleUpdate(people::PeopleUpdate),
    /// Forget the lost authenticator app of somebody
    #[command(name = "people:reset-2fa", display_order = 8)]
    PeopleResetTwoFactor(people::PeopleResetTwoFactor),
    /// End somebody's account and tokens
    #[command(name = "people:remove", display_order = 8)]
    PeopleRemove(people::PeopleRemove),
    /// Show who changed what, when, and from where
    #[command(name = "audit", display_order = 8)]
    Audit(people::Audit),
    /// Show how the server is
    #[command(name = "status", after_help = "Example: berth status --json", display_order = 8)]
    Status,
    /// Check what this machine has and lacks for Berth
    #[command(name = "doctor", display_order = 8)]
    Doctor(server::Doctor),
    /// Show or delete what no kept release needs
    #[command(name = "gc", display_order = 8)]
    Gc(server::Gc),
    /// Print a completion script for a shell
    #[command(name = "completions", display_order = 9)]
    Completions(shell_completions::Completions),
}

pub(crate) fn execute(command: Command, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        Command::Create(args) => apps::create(context, &args)?,
        Command::Apps => apps::list(context)?,
        Command::AppsInfo => apps::info(context)?,
        Command::AppTransfers(command) => app_transfers::execute(command, context)?,
        Command::AppsDestroy(args) => apps::destroy(context, &args)?,
        Command::EnvClone(args) => env_clone::clone(context, &args)?,
        Command::PipelinesPromote(args) => promote::promote(context, &args)?,
        Command::PipelinesCompare(args) => pipelines::compare(context, &args)?,
        Command::PipelinesTransfer(args) => pipelines::transfer(context, &args)?,
        Command::PipelinesProtect(args) => pipelines::protect(context, &args)?,
        Command::PipelinesLock(args) => pipelines::lock(context, &args)?,
        Command::PipelinesUnlock(args) => pipelines::unlock(context, &args)?,
        Command::Notify => notify::list(context)?,
        Command::NotifyAdd(args) => notify::add(context, &args)?,
        Command::NotifyRemove(args) => notify::remove(context, &args)?,
        Command::Addons(args) => addons::list(context, &args)?,
        Command::AddonsServices => addons::services(context)?,
        Command::AddonsPlans(args) => addons::plans(context, &args)?,
        Command::AddonsCreate(args) => addons::create(context, &args)?,
        Command::AddonsInfo(args) => addons::info(context, &args)?,
        Command::AddonsAttach(args) => addons::attach(context, &args)?,
        Command::AddonsDetach(args) => addons::detach(context, &args)?,
        Command::AddonsUpdate(args) => addons::update(context, &args)?,
        Command::AddonsRename(args) => addons::rename(context, &args)?,
        Command::AddonsWait(args) => addons::wait(context, &args)?,
        Command::AddonsDestroy(args) => addons::destroy(context, &args)?,
        Command::Open => apps::open(context)?,
        Command::Deploy(args) => deploy::deploy(context, &args)?,
        Command::Releases(args) => releases::list(context, &args)?,
        Command::ReleasesInfo(args) => releases::info(context, &args)?,
        Command::ReleasesOutput(args) => releases::output(context, &args)?,
        Command::ReleasesResume(args) => releases::resume(context, &args)?,
        Command::Rollback(args) => releases::rollback(context, &args)?,
        Command::Config(args) => config::list(context, &args)?,
        Command::ConfigGet(args) => config::get(context, &args)?,
        Command::ConfigSet(args) => config::set(context, &args)?,
        Command::ConfigUnset(args) => config::unset(context, &args)?,
        Command::ConfigImport(args) => config::import(context, &args)?,
        Command::Ps => ps::list(context)?,
        Command::PsScale(args) => ps::scale(context, &args)?,
        Command::PsType(args) => ps::set_type(context, &args)?,
        Command::PsConcurrency(args) => concurrency::concurrency(context, &args)?,
        Command::PsRestart(args) => ps::restart(context, &args)?,
        Command::PsStop(args) => ps::stop(context, &args)?,
        Command::PsExec(args) => return exec::exec(context, &args),
        Command::PsCopy(args) => exec::copy(context, &args)?,
        Command::PsForward(args) => forward::forward(context, &args)?,
        Command::PsSocks(args) => forward::socks(context, &args)?,
        Command::Run(args) => return run::run(context, &args),
        Command::Logs(args) => logs::show(context, &args)?,
        Command::Cron => cron::list(context)?,
        Command::CronAdd(args) => cron::add(context, &args)?,
        Command::CronRemove(args) => cron::remove(context, &args)?,
        Command::CronRun(args) => return cron::start(context, &args),
        Command::CronPause(args) => cron::pause(context, &args, true)?,
        Command::CronResume(args) => cron::pause(context, &args, false)?,
        Command::CronHistory(args) => cron::history(context, &args)?,
        Command::CronLogs(args) => cron::logs(context, &args)?,
        Command::CronImport(args) => cron_import::import(context, &args)?,
        Command::Maintenance => apps::maintenance(context)?,
        Command::MaintenanceOn => apps::set_maintenance(context, true)?,
        Command::MaintenanceOff => apps::set_maintenance(context, false)?,
        Command::Routing => routing::show(context)?,
        Command::RoutingSet(args) => routing::set(context, &args)?,
        Command::RoutingUnset(args) => routing::unset(context, &args)?,
        Command::RoutingPage(args) => routing::page(context, &args)?,
        Command::Health => health::show(context)?,
        Command::HealthSet(args) => health::set(context, &args)?,
        Command::HealthOff => health::off(context)?,
        Command::Traffic => traffic::show(context)?,
        Command::TrafficPause(args) => traffic::pause(context, &args)?,
        Command::TrafficResume => traffic::resume(context)?,
        Command::Domains => domains::list(context)?,
        Command::DomainsAdd(args) => domains::add(context, &args)?,
        Command::DomainsRemove(args) => domains::remove(context, &args)?,
        Command::DomainsFront(args) => domains::front(context, &args)?,
        Command::GitRemote => git_access::remote(context)?,
        Command::GitCredentials(args) => git_access::credentials(context, &args)?,
        Command::Heroku(args) => return heroku::heroku(context, &args),
        Command::HerokuEnv(args) => heroku::env(context, &args)?,
        Command::Login(args) => access::login(context, &args)?,
        Command::Account => access::account(context)?,
        Command::Tokens => access::tokens(context)?,
        Command::TokensCreate(args) => access::create(context, &args)?,
        Command::TokensRevoke(args) => access::revoke(context, &args)?,
        Command::Dns => dns::list(context)?,
        Command::DnsAdd(args) => dns::add(context, &args)?,
        Command::DnsRemove(args) => dns::remove(context, &args)?,
        Command::TwoFactor => second_factor::show(context)?,
        Command::TwoFactorEnable => second_factor::enable(context)?,
        Command::TwoFactorDisable => second_factor::disable(context)?,
        Command::TwoFactorAuthorize => second_factor::authorize_for_app(context)?,
        Command::Access => people::access(context)?,
        Command::AccessAdd(args) => people::access_add(context, &args)?,
        Command::AccessUpdate(args) => people::access_update(context, &args)?,
        Command::AccessRemove(args) => people::access_remove(context, &args)?,
        Command::People => people::people(context)?,
        Command::PeopleAdd(args) => people::people_add(context, &args)?,
        Command::PeopleUpdate(args) => people::people_update(context, &args)?,
        Command::PeopleResetTwoFactor(args) => people::people_reset_two_factor(context, &args)?,
        Command::PeopleRemove(args) => people::people_remove(context, &args)?,
        Command::Audit(args) => people::audit(context, &args)?,
        Command::Status => server::status(context)?,
        Command::Doctor(args) => return server::doctor(context, &args),
        Command::Gc(args) => server::gc(context, &args)?,
        Command::Completions(args) => args.print(crate::command("berth"))?,
    }
    Ok(ExitCode::SUCCESS)
}
