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
