-- The user the API acts for. After the first SET LOCAL of a session the setting is '' and not NULL.
-- A signed value is taken too, and its signature is not looked at: so the API may sign before the database requires it.

CREATE OR REPLACE FUNCTION chat.current_user_id() RETURNS uuid
    LANGUAGE sql STABLE
    RETURN nullif(split_part(current_setting('app.user_id', true), '.', 1), '')::uuid;
