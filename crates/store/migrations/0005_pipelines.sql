-- Pipelines: apps in stages, and what was promoted from one to the next. Written by the API alone.

CREATE TABLE pipeline (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    owner_id   TEXT NOT NULL REFERENCES account (id),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE pipeline_coupling (
    id          TEXT PRIMARY KEY,
    pipeline_id TEXT NOT NULL REFERENCES pipeline (id) ON DELETE CASCADE,
    -- An app is in one pipeline at most.
    app_id      TEXT NOT NULL UNIQUE REFERENCES app (id) ON DELETE CASCADE,
    -- test, review, development, staging, production
    stage       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX pipeline_coupling_pipeline ON pipeline_coupling (pipeline_id);

-- Records of what happened: they stay as they are when pipelines and apps go.
CREATE TABLE promotion (
    id                TEXT PRIMARY KEY,
    pipeline_id       TEXT NOT NULL,
    source_app_id     TEXT NOT NULL,
    source_release_id TEXT NOT NULL,
    created_at        INTEGER NOT NULL
) STRICT;

CREATE TABLE promotion_target (
    id           TEXT PRIMARY KEY,
    promotion_id TEXT NOT NULL REFERENCES promotion (id) ON DELETE CASCADE,
    app_id       TEXT NOT NULL,
    -- How it goes is the state of this release.
    release_id   TEXT NOT NULL
) STRICT;
CREATE INDEX promotion_target_promotion ON promotion_target (promotion_id);
