//! What to do here instead, where the `heroku` client itself refuses, or asks somebody who has nothing to do with us: it
//! then knows nothing of this server, and its words lead elsewhere.

/// Commands of the client's that cannot work, and what is said behind the client's own words when one has failed.
pub(super) const ADVICE: [(&str, &str); 4] = [
    (
        "access:update",
        "This server has no teams, and everybody's permissions can be changed: \
         `berth access:update EMAIL -p PERMISSIONS -a APP`.",
    ),
    ("apps:favorites:add", "Favourites belong to Heroku's dashboard, which this server does not have."),
    ("ci:run", "Tests do not run on this server. Run them in your own CI, and deploy from there: `berth deploy`."),
    (
        "pipelines:diff",
        "It asks GitHub, to which nothing here is connected. `berth pipelines:compare PIPELINE` shows what differs \
         between the stages.",
    ),
];
