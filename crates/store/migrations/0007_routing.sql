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
