-- Requests that a dyno works on at once, as far as the router has learned. Written by the reconciler.
ALTER TABLE app ADD COLUMN workers_hint INTEGER;

-- How an app wants its requests handled. Without a row, and where a column is NULL, it is as on Heroku.
-- Written by the API alone.
CREATE TABLE routing (
    app_id            TEXT PRIMARY KEY REFERENCES app (id) ON DELETE CASCADE,
    https_only        INTEGER NOT NULL,
    hsts_max_age_s    INTEGER,
    hsts_subdomains   INTEGER NOT NULL,
    hsts_preload      INTEGER NOT NULL,
    compression       INTEGER NOT NULL,
    -- http1, h2c
    dyno_protocol     TEXT NOT NULL,
    session_affinity  INTEGER NOT NULL,
    request_bytes_max INTEGER,
    timeout_ms        INTEGER,
    idle_timeout_ms   INTEGER,
    boot_wait_ms      INTEGER,
    -- HTML
    maintenance_page  TEXT,
    error_page        TEXT,
    updated_at        INTEGER NOT NULL
) STRICT;

-- Where the requests for a domain go while its app has not moved in yet. Written by the API.
ALTER TABLE domain ADD COLUMN upstream TEXT;

-- Apps whose requests are held. A row whose time has passed means nothing. Written by the API alone.
CREATE TABLE pause (
    app_id TEXT PRIMARY KEY REFERENCES app (id) ON DELETE CASCADE,
    until  INTEGER NOT NULL
) STRICT;

-- How the web dynos of an app are checked while they serve. Written by the API alone.
CREATE TABLE health_check (
    app_id           TEXT PRIMARY KEY REFERENCES app (id) ON DELETE CASCADE,
    path             TEXT NOT NULL,
    -- As people write it: 200-399,401.
    status           TEXT NOT NULL,
    interval_ms      INTEGER NOT NULL,
    timeout_ms       INTEGER NOT NULL,
    failures         INTEGER NOT NULL,
    successes        INTEGER NOT NULL,
    replace_after_ms INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT;

-- What the checks of a dyno say. Written by the reconciler.
ALTER TABLE dyno ADD COLUMN health_passed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dyno ADD COLUMN unhealthy_since INTEGER;
-- What was wrong when it became unhealthy.
ALTER TABLE dyno ADD COLUMN health_failure TEXT;
