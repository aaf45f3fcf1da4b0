-- What a dyno speaks: as its app had it when the row was made, and for as long as it lives. Written with the row, and
-- never again.
ALTER TABLE dyno ADD COLUMN protocol TEXT NOT NULL DEFAULT 'http1';
UPDATE dyno SET protocol = (SELECT dyno_protocol FROM routing WHERE routing.app_id = dyno.app_id)
WHERE app_id IN (SELECT app_id FROM routing);
