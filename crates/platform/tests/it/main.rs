//! The whole platform, as its users meet it: the real executable, real builds, real sandboxes, real sockets.
//!
//! Every test starts a platform of its own, and fails if that leaves anything behind on the machine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the helpers of tests fail and talk like tests"
)]

mod api;
mod chromium;
mod client;
mod cloudflare;
mod conformance;
mod heroku_cli;
mod http;
mod idle_sessions;
mod left_over;
mod load;
mod mailbox;
mod pebble;
mod platform;
mod postgres;
mod receiver;
mod source;
mod tls;
mod turn;
mod wait;

mod adoption;
mod app_faults;
mod bad_input;
mod browser_login;
mod builds;
mod certificates;
mod client_libraries;
mod cron;
mod deploys;
mod development_mode;
mod environments;
mod examples;
mod fuzz_api;
mod git_push;
mod health;
mod heroku_addons;
mod heroku_apps;
mod heroku_auth;
mod heroku_code;
mod heroku_commands;
mod heroku_domains;
mod heroku_drains;
mod heroku_env;
mod heroku_exec;
mod heroku_features;
mod heroku_pipelines;
mod heroku_run;
mod heroku_webhooks;
mod isolation;
mod limits;
mod managed_certificates;
mod oauth_clients;
mod people;
mod platform_api;
mod platform_hosts;
mod platform_links;
mod platform_shapes;
mod races;
mod rate_limits;
mod real_software;
mod releases;
mod replacement;
mod routing;
mod run_session;
mod scripts;
mod second_factor;
mod session_ends;
mod traffic;
mod visits;
mod zero_downtime;
