-- The people of the server. Written by the API alone, but for the first account, which the first start makes.
ALTER TABLE account ADD COLUMN administrator INTEGER NOT NULL DEFAULT 0;
UPDATE account SET administrator = 1;
-- Somebody who has left: nothing of theirs works any more, and what they did stays theirs.
ALTER TABLE account ADD COLUMN removed_at INTEGER;

-- What a token is good for: Heroku's words, separated by commas, or `invitation`.
ALTER TABLE token ADD COLUMN scope TEXT NOT NULL DEFAULT 'global';

-- Whom the owner of an app has let in. The owner has no row.
CREATE TABLE collaborator (
    id          TEXT PRIMARY KEY,
    app_id      TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    account_id  TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    -- view, deploy, operate, manage, separated by commas
    permissions TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    UNIQUE (app_id, account_id)
) STRICT;
CREATE INDEX collaborator_account ON collaborator (account_id);


ALTER TABLE audit ADD COLUMN app_id TEXT;
CREATE INDEX audit_app ON audit (app_id);

-- Second factors: one-time codes from a clock.
CREATE TABLE two_factor (
    account_id    TEXT PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    secret_sealed BLOB NOT NULL,
    -- Asked for once a code of it was seen.
    confirmed     INTEGER NOT NULL DEFAULT 0,
    -- The newest step whose code was used: each code is good once.
    last_step     INTEGER NOT NULL DEFAULT 0,
    -- Wrong codes in a row.
    failures      INTEGER NOT NULL DEFAULT 0,
    blocked_until INTEGER
) STRICT;
