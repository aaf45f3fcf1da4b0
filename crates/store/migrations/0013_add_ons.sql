-- Add-ons: services that apps use, and the names under which apps have them. Written by the API alone, but for state,
-- failure and values of an add-on that somebody has to make first: those are then the reconciler's.
CREATE TABLE add_on (
    id            TEXT PRIMARY KEY,
    -- The app that it was made for, and goes with.
    app_id        TEXT NOT NULL REFERENCES app (id),
    account_id    TEXT NOT NULL REFERENCES account (id),
    name          TEXT NOT NULL UNIQUE,
    service       TEXT NOT NULL,
    -- What stands behind the colon.
    plan          TEXT NOT NULL,
    -- provisioning, provisioned, deprovisioning, deprovisioned
    state         TEXT NOT NULL,
    failure       TEXT,
    -- What whoever makes it has to know; empty where nobody has to.
    order_sealed  BLOB NOT NULL,
    -- What it gives to apps, and the names of that, which are known before.
    values_sealed BLOB NOT NULL,
    value_names   TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX add_on_app ON add_on (app_id);

CREATE TABLE attachment (
    id         TEXT PRIMARY KEY,
    add_on_id  TEXT NOT NULL REFERENCES add_on (id) ON DELETE CASCADE,
    app_id     TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    -- Which of an add-on's credentials; NULL for the only one.
    namespace  TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (app_id, name)
) STRICT;
CREATE INDEX attachment_add_on ON attachment (add_on_id);

-- `service:plan` of what was attached when the release was made, one a line.
ALTER TABLE release ADD COLUMN add_on_plans TEXT NOT NULL DEFAULT '';
