-- Times are microseconds since 1970 (UTC). Ids are UUIDs as text. Columns named *_sealed are encrypted with the master key.

CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE account (
    id         TEXT PRIMARY KEY,
    email      TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE token (
    id           TEXT PRIMARY KEY,
    account_id   TEXT NOT NULL REFERENCES account (id),
    -- SHA-256 of a 256-bit random token: nothing to guess, so no slow hash.
    hash         BLOB NOT NULL UNIQUE,
    description  TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER
) STRICT;

CREATE TABLE app (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    owner_id      TEXT NOT NULL REFERENCES account (id),
    -- One per app, never reused.
    uid           INTEGER NOT NULL UNIQUE,
    maintenance   INTEGER NOT NULL DEFAULT 0,
    buildpacks    TEXT NOT NULL DEFAULT '',
    config_sealed BLOB NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    released_at   INTEGER,
    -- Set by `apps:destroy`; the row goes when nothing of the app is left.
    destroyed_at  INTEGER
) STRICT;
CREATE UNIQUE INDEX app_name ON app (name) WHERE destroyed_at IS NULL;

CREATE TABLE formation (
    id           TEXT NOT NULL,
    app_id       TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    quantity     INTEGER NOT NULL,
    size         TEXT NOT NULL,
    concurrency  INTEGER,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (app_id, process_type)
) STRICT;

CREATE TABLE source (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE slug (
    id          TEXT PRIMARY KEY,
    app_id      TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    -- Of the archive; NULL until an uploaded slug has arrived.
    sha256      TEXT,
    size_bytes  INTEGER NOT NULL,
    -- What the build found out, as JSON that only the builder reads.
    manifest    TEXT NOT NULL,
    stack       TEXT NOT NULL,
    commit_id   TEXT,
    language    TEXT,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE slug_process (
    slug_id      TEXT NOT NULL REFERENCES slug (id) ON DELETE CASCADE,
    process_type TEXT NOT NULL,
    command      TEXT NOT NULL,
    PRIMARY KEY (slug_id, process_type)
) STRICT;

CREATE TABLE build (
    id             TEXT PRIMARY KEY,
    app_id         TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    account_id     TEXT NOT NULL REFERENCES account (id),
    source_id      TEXT,
    source_url     TEXT,
    source_version TEXT,
    buildpacks     TEXT NOT NULL,
    -- pending, succeeded, failed, canceled
    status         TEXT NOT NULL,
    hold           INTEGER NOT NULL DEFAULT 0,
    failure        TEXT,
    slug_id        TEXT REFERENCES slug (id),
    release_id     TEXT,
    config_sealed  BLOB NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX build_app ON build (app_id, created_at);

CREATE TABLE release (
    id              TEXT PRIMARY KEY,
    app_id          TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    version         INTEGER NOT NULL,
    cause           TEXT NOT NULL,
    description     TEXT NOT NULL,
    slug_id         TEXT REFERENCES slug (id),
    account_id      TEXT NOT NULL REFERENCES account (id),
    state           TEXT NOT NULL,
    failure         TEXT,
    -- Run the release phase: new code, or somebody asked for it.
    run_command     INTEGER NOT NULL,
    config_sealed   BLOB NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (app_id, version)
) STRICT;

CREATE TABLE dyno (
    id           TEXT PRIMARY KEY,
    app_id       TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    kind         TEXT NOT NULL,
    process_type TEXT NOT NULL,
    number       INTEGER NOT NULL,
    release_id   TEXT,
    build_id     TEXT,
    size         TEXT NOT NULL,
    command      TEXT NOT NULL,
    env_sealed   BLOB NOT NULL,
    state        TEXT NOT NULL,
    since        INTEGER NOT NULL,
    crashes      INTEGER NOT NULL DEFAULT 0,
    -- '', 'restart' or 'stop': what somebody asked for. The only column that the API writes after the insert.
    request      TEXT NOT NULL DEFAULT '',
    -- Slot in the dyno network (or the port range without one); NULL once the dyno is over.
    slot         INTEGER UNIQUE,
    exit_status  INTEGER,
    exit_reason  TEXT,
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX dyno_app ON dyno (app_id);

CREATE TABLE audit (
    sequence   INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    origin     TEXT NOT NULL
) STRICT;
