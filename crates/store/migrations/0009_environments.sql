-- Who may bring code where: tokens for one app, protected stages. And messages about what happened.

-- The one app that a token is for. Written once, by the API.
ALTER TABLE token ADD COLUMN app_id TEXT REFERENCES app (id) ON DELETE CASCADE;

-- Written by the API alone.
CREATE TABLE stage_protection (
    pipeline_id TEXT NOT NULL REFERENCES pipeline (id) ON DELETE CASCADE,
    stage       TEXT NOT NULL,
    -- E-mail addresses, one a line; empty for everybody.
    deployers   TEXT NOT NULL DEFAULT '',
    -- As `MON-FRI 09:00-17:00`, one a line; empty for any time.
    windows     TEXT NOT NULL DEFAULT '',
    zone        TEXT NOT NULL DEFAULT 'UTC',
    lock_reason TEXT,
    locked_by   TEXT,
    locked_at   INTEGER,
    PRIMARY KEY (pipeline_id, stage)
) STRICT;

-- Where messages about an app go. Written by the API alone.
CREATE TABLE notification (
    id            TEXT PRIMARY KEY,
    app_id        TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    -- slack, webhook
    format        TEXT NOT NULL,
    -- The address of a Slack channel is a secret.
    url_sealed    BLOB NOT NULL,
    secret_sealed BLOB NOT NULL,
    -- Kinds of events, one a line.
    events        TEXT NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;

-- Messages on their way: inserted with the event in one transaction, moved on by whoever delivers alone.
CREATE TABLE notification_delivery (
    notification_id TEXT NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
    event_sequence  INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    kind            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    text            TEXT NOT NULL,
    -- pending, delivered, given_up
    state           TEXT NOT NULL DEFAULT 'pending',
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_at         INTEGER NOT NULL,
    error           TEXT,
    PRIMARY KEY (notification_id, event_sequence)
) STRICT;
CREATE INDEX notification_delivery_due ON notification_delivery (next_at) WHERE state = 'pending';
