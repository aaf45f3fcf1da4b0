-- Who speaks for an account besides itself, and when it has to say so again; builds from scratch; autoscaling.

-- Changes of this app take a code of the account's second factor. Written by the API alone.
ALTER TABLE app ADD COLUMN second_factor INTEGER NOT NULL DEFAULT 0;

-- A token whose owner has shown a code for an app. Written by the API alone.
CREATE TABLE pre_authorization (
    token_id   TEXT NOT NULL REFERENCES token (id) ON DELETE CASCADE,
    app_id     TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (token_id, app_id)
) STRICT;

-- A login by browser: listed as a session, and not among the tokens that somebody made. Written once, by the API.
ALTER TABLE token ADD COLUMN session INTEGER NOT NULL DEFAULT 0;

-- Programs of others that may ask accounts for tokens. Written by the API alone.
CREATE TABLE oauth_client (
    id            TEXT PRIMARY KEY,
    account_id    TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name          TEXT NOT NULL,
    redirect_uri  TEXT NOT NULL,
    -- Shown whenever its owner asks.
    secret_sealed BLOB NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX oauth_client_account ON oauth_client (account_id);

-- The program that a token was given to, and the hash of what it renews the token with. Written by the API alone.
ALTER TABLE token ADD COLUMN client_id TEXT REFERENCES oauth_client (id) ON DELETE CASCADE;
ALTER TABLE token ADD COLUMN refresh_hash BLOB;
CREATE UNIQUE INDEX token_refresh ON token (refresh_hash) WHERE refresh_hash IS NOT NULL;

-- The next build begins without what earlier ones left. Set by the API, cleared by whoever builds.
ALTER TABLE app ADD COLUMN empty_cache INTEGER NOT NULL DEFAULT 0;

-- Autoscaling of a process type by the time of its answers. Written by the API alone.
CREATE TABLE monitor (
    id           TEXT PRIMARY KEY,
    app_id       TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    active       INTEGER NOT NULL,
    min_quantity INTEGER NOT NULL,
    max_quantity INTEGER NOT NULL,
    p95_ms       INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    UNIQUE (app_id, process_type)
) STRICT;
