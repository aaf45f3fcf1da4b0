//! What to do here instead, where the `heroku` client itself refuses, or asks somebody who has nothing to do with us: it
//! then knows nothing of this server, and its words lead elsewhere.

const PSQL: &str = "It connects from this machine to the app's add-on DATABASE. A database of your own becomes that with \
                    `berth addons:create berth-custom --as DATABASE --url URL`.";

const TESTS: &str = "Tests do not run on this server. Run them in your own CI, and deploy from there: `berth deploy`.";

const GITHUB: &str =
    "Nothing here is connected to GitHub. Deploy from your CI with `berth deploy`, or with `git push`.";

/// Commands of the client's that cannot work, and what is said behind the client's own words when one has failed. A topic
/// stands for all of its commands that have no line of their own.
pub(super) const ADVICE: [(&str, &str); 14] = [
    (
        "access:update",
        "This server has no teams, and everybody's permissions can be changed: \
         `berth access:update EMAIL -p PERMISSIONS -a APP`.",
    ),
    ("apps:favorites:add", "Favourites belong to Heroku's dashboard, which this server does not have."),
    ("ci:debug", TESTS),
    ("ci:open", TESTS),
    ("ci:run", TESTS),
    ("container", "Images cannot be released yet: deploy the source with `git push` or `berth deploy`."),
    (
        "pipelines:diff",
        "It asks GitHub, to which nothing here is connected. `berth pipelines:compare PIPELINE` shows what differs \
         between the stages.",
    ),
    (
        "pg:extensions",
        "It asks for a list that only Heroku's databases keep, of what may be installed there. What a database of your \
         own has: `berth heroku -- pg:psql -a APP -c 'SELECT name, default_version, installed_version, comment FROM \
         pg_available_extensions ORDER BY name'`.",
    ),
    ("pg:psql", PSQL),
    ("psql", PSQL),
    (
        "redis",
        "Databases here are your own, not Heroku's. Attach one with `berth addons:create berth-custom --as REDIS \
         --url URL`, and use its own tools: `redis-cli -u \"$(berth config:get REDIS_URL)\"`.",
    ),
    ("pipelines:connect", GITHUB),
    (
        "pipelines:open",
        "Heroku's dashboard knows nothing of this server. `berth pipelines:compare PIPELINE` shows the stages side by \
         side.",
    ),
    ("pipelines:setup", GITHUB),
];

/// Commands behind which that is said also where they end well: they lead to pages of Heroku's.
pub(super) const LEADING_ELSEWHERE: [&str; 2] = ["ci:open", "pipelines:open"];
