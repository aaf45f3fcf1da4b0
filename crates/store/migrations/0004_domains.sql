-- Custom domains of apps and the certificates for them. Written by the API, but for the columns acm_status and
-- acm_status_reason, which belong to whoever issues certificates.

CREATE TABLE sni_endpoint (
    id                TEXT PRIMARY KEY,
    app_id            TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    name              TEXT NOT NULL,
    -- PEM, the app's own certificate first.
    certificate_chain TEXT NOT NULL,
    -- PEM. Never leaves the server but for the router.
    key_sealed        BLOB NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    UNIQUE (app_id, name)
) STRICT;

CREATE TABLE domain (
    id                TEXT PRIMARY KEY,
    app_id            TEXT NOT NULL REFERENCES app (id) ON DELETE CASCADE,
    -- In lower case; may begin with `*.`. Of one app only.
    hostname          TEXT NOT NULL UNIQUE,
    sni_endpoint_id   TEXT REFERENCES sni_endpoint (id) ON DELETE SET NULL,
    acm_status        TEXT,
    acm_status_reason TEXT,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL
) STRICT;
CREATE INDEX domain_app ON domain (app_id);

-- Whether certificates for the app's domains are managed for it.
ALTER TABLE app ADD COLUMN acm INTEGER NOT NULL DEFAULT 0;
