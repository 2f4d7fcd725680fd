-- What a user shows to others: one profile for each user.

CREATE TABLE chat.profiles (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES chat.users (id) ON DELETE CASCADE,
    display_name varchar(100),
    bio text,
    avatar_url varchar(255),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT profiles_user_id_key UNIQUE (user_id),
    CONSTRAINT profiles_bio_is_short CHECK (length(bio) <= 2000),
    CONSTRAINT profiles_avatar_url_is_https CHECK (avatar_url LIKE 'https://%')
);

CREATE TRIGGER profiles_set_updated_at
    BEFORE UPDATE ON chat.profiles
    FOR EACH ROW EXECUTE FUNCTION chat.set_updated_at();
