-- Of one-off dynos, written once, by the API.
-- How a client meets its standard streams: '', 'pipes' or '<rows>x<columns>'.
ALTER TABLE dyno ADD COLUMN attach TEXT NOT NULL DEFAULT '';
-- Seconds that it may run; NULL as long as the platform lets it.
ALTER TABLE dyno ADD COLUMN time_to_live_s INTEGER;
