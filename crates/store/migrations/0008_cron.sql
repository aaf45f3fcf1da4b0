-- Jobs on a schedule, their runs, and events that somebody may want to be told of.

CREATE TABLE cron_job (
    id            TEXT PRIMARY KEY,
    app_id        TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    -- Of the release that serves (written by the reconciler), or somebody's own (written by the API).
    from_app_json INTEGER NOT NULL,
    schedule      TEXT NOT NULL,
    zone          TEXT NOT NULL,
    command       TEXT NOT NULL,
    size          TEXT NOT NULL,
    -- skip, queue, replace
    overlap       TEXT NOT NULL,
    -- none, last, all
    catch_up      TEXT NOT NULL,
    deadline_s    INTEGER NOT NULL,
    retries       INTEGER NOT NULL,
    retry_delay_s INTEGER NOT NULL,
    -- Written by the API alone.
    paused        INTEGER NOT NULL,
    -- The first tick that was not decided about. The reconciler moves it on, and only from the value that it decided
    -- with; whoever changes the schedule sets it anew.
    next_at       INTEGER,
    -- Runs so far: their numbers go on when old ones are forgotten.
    runs          INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    UNIQUE (app_id, name)
) STRICT;

-- Inserted by the reconciler, and by the API where somebody asks for a run; all that changes is the reconciler's.
CREATE TABLE cron_run (
    job_id      TEXT NOT NULL REFERENCES cron_job (id) ON DELETE CASCADE,
    -- The key is the claim: a tick has one run for each attempt, whatever happens to the server.
    tick        INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    -- schedule, hand
    trigger     TEXT NOT NULL,
    -- waiting, running, succeeded, failed, stopped, skipped, missed
    state       TEXT NOT NULL,
    not_before  INTEGER NOT NULL,
    dyno_id     TEXT,
    dyno_name   TEXT,
    release_id  TEXT,
    started_at  INTEGER,
    ended_at    INTEGER,
    exit_status INTEGER,
    -- Why it is as it is, for people.
    reason      TEXT,
    PRIMARY KEY (job_id, tick, attempt)
) STRICT;
CREATE UNIQUE INDEX cron_run_number ON cron_run (job_id, number);
CREATE INDEX cron_run_open ON cron_run (job_id) WHERE state IN ('waiting', 'running');

-- Which release's app.json an app's jobs were last taken from. Written by the reconciler alone.
CREATE TABLE cron_source (
    app_id     TEXT PRIMARY KEY REFERENCES app (id) ON DELETE CASCADE,
    release_id TEXT NOT NULL
) STRICT;

-- What happened, for whoever passes it on. Only inserted into; old rows are forgotten.
CREATE TABLE event (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    app_id   TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    -- As `cron.failed`.
    kind     TEXT NOT NULL,
    -- What it is about: a job, a dyno, a release.
    subject  TEXT NOT NULL,
    -- One line for people.
    text     TEXT NOT NULL
) STRICT;
