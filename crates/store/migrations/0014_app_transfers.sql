-- Apps that their owners give to somebody else. Written by the API alone.
CREATE TABLE app_transfer (
    id           TEXT PRIMARY KEY,
    -- An app has one, the last.
    app_id       TEXT NOT NULL UNIQUE REFERENCES app (id) ON DELETE CASCADE,
    -- The owner of the app, as long as it is pending: it ends when somebody else is.
    sender_id    TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    recipient_id TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    -- pending, accepted, declined
    state        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) STRICT;
