-- SSH keys that an account has made known. Written by the API alone.
CREATE TABLE ssh_key (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    -- SHA-256 of the key itself, as `ssh-keygen -l` shows it.
    fingerprint TEXT NOT NULL,
    public_key  TEXT NOT NULL,
    comment     TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    UNIQUE (account_id, fingerprint)
) STRICT;
