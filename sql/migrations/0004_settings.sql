-- A user's preferences: one JSON value for each key.

CREATE TABLE chat.settings (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES chat.users (id) ON DELETE CASCADE,
    key varchar(50) NOT NULL,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT settings_user_id_key_key UNIQUE (user_id, key),
    CONSTRAINT settings_key_is_a_name CHECK (key ~ '^[a-z][a-z0-9_.]*$'),
    CONSTRAINT settings_value_is_small CHECK (octet_length(value::text) <= 16384)
);

CREATE TRIGGER settings_set_updated_at
    BEFORE UPDATE ON chat.settings
    FOR EACH ROW EXECUTE FUNCTION chat.set_updated_at();
