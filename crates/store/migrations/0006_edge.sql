-- Certificates that are managed: ordered from an authority (ACME) for the domains of apps that want that. Written by the
-- reconciler, but for app.acm_refreshed_at and dns_provider, which the API writes.

-- This server's account with an authority.
CREATE TABLE acme_account (
    directory          TEXT PRIMARY KEY,
    -- With its key.
    credentials_sealed BLOB NOT NULL,
    created_at         INTEGER NOT NULL
) STRICT;

-- By host name and not by domain: a domain that is removed and added again has its certificate back, where another one
-- would count against the authority's limits.
CREATE TABLE managed_certificate (
    id                TEXT PRIMARY KEY,
    hostname          TEXT NOT NULL UNIQUE,
    directory         TEXT NOT NULL,
    certificate_chain TEXT NOT NULL,
    key_sealed        BLOB NOT NULL,
    valid_from        INTEGER NOT NULL,
    valid_until       INTEGER NOT NULL,
    issued_at         INTEGER NOT NULL
) STRICT;

-- Every order that was begun, for the authority's limits.
CREATE TABLE acme_order (
    id             INTEGER PRIMARY KEY,
    hostname       TEXT NOT NULL,
    started_at     INTEGER NOT NULL,
    -- under_way, issued, failed, deferred, interrupted
    outcome        TEXT NOT NULL,
    deferred_until INTEGER
) STRICT;
CREATE INDEX acme_order_started ON acme_order (started_at);

-- Who holds the DNS records of a zone, for certificates that need one (wildcards).
CREATE TABLE dns_provider (
    zone               TEXT PRIMARY KEY,
    -- cloudflare, route53
    kind               TEXT NOT NULL,
    -- Of its API, where it is not the usual one.
    endpoint           TEXT,
    credentials_sealed BLOB NOT NULL,
    created_at         INTEGER NOT NULL
) STRICT;

-- The last `heroku certs:auto:refresh`.
ALTER TABLE app ADD COLUMN acm_refreshed_at INTEGER;
