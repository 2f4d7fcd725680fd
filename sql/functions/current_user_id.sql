-- The user the API acts for. After the first SET LOCAL of a session the setting is '' and not NULL.

CREATE OR REPLACE FUNCTION chat.current_user_id() RETURNS uuid
    LANGUAGE sql STABLE
    RETURN nullif(current_setting('app.user_id', true), '')::uuid;
