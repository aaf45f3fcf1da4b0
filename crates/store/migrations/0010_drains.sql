-- Where copies of an app's log go. Written by the API alone; how far each drain is stands in `drains/`, outside the
-- database, because it changes every second.
CREATE TABLE log_drain (
    id             TEXT PRIMARY KEY,
    app_id         TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    -- May hold a password or a key of the receiver's.
    url_sealed     BLOB NOT NULL,
    -- What the receiver tells drains apart by: `d.` and an id.
    token          TEXT NOT NULL UNIQUE,
    -- The app's newest line when the drain was made: it gets what comes after.
    after_sequence INTEGER NOT NULL,
    created_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX log_drain_app ON log_drain (app_id);

-- Who wants to be told of what happens to an app. No row depends on the app's: its end is told, too. Written by the
-- API alone; the reconciler's deletion of an app leaves these to whoever delivers.
CREATE TABLE webhook (
    id                   TEXT PRIMARY KEY,
    app_id               TEXT NOT NULL,
    url_sealed           BLOB NOT NULL,
    -- `api:release` and its like, one a line.
    include              TEXT NOT NULL,
    -- notify, sync
    level                TEXT NOT NULL,
    secret_sealed        BLOB NOT NULL,
    authorization_sealed BLOB,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL
) STRICT;
CREATE INDEX webhook_app ON webhook (app_id);

-- What happened to rows of an app that has webhooks. Triggers of the writing connection fill it in the transaction of
-- the change itself; a change becomes an event, and goes.
CREATE TABLE change (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id     TEXT NOT NULL,
    -- The table.
    entity     TEXT NOT NULL,
    -- create, update, destroy
    action     TEXT NOT NULL,
    -- The row before and after, as JSON, without what is sealed.
    before     TEXT,
    after      TEXT,
    -- Who did it; NULL for the platform itself.
    account_id TEXT,
    at         INTEGER NOT NULL
) STRICT;

CREATE TABLE webhook_event (
    sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app_id     TEXT NOT NULL,
    include    TEXT NOT NULL,
    -- JSON, as it is sent.
    payload    TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX webhook_event_app ON webhook_event (app_id);

-- Written by whoever delivers.
CREATE TABLE webhook_delivery (
    sequence        INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    webhook_id      TEXT NOT NULL REFERENCES webhook (id) ON DELETE CASCADE,
    event_id        TEXT NOT NULL REFERENCES webhook_event (id) ON DELETE CASCADE,
    -- pending, retrying, failed, succeeded
    status          TEXT NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    -- NULL when there is nothing more to do.
    next_attempt_at INTEGER,
    attempt_id      TEXT,
    attempt_at      INTEGER,
    -- Of the answer; NULL where there was none.
    attempt_code    INTEGER,
    attempt_error   TEXT,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX webhook_delivery_due ON webhook_delivery (next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_delivery_event ON webhook_delivery (event_id);
CREATE INDEX webhook_delivery_webhook ON webhook_delivery (webhook_id);
