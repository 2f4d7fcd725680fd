-- Accounts. Personal data is encrypted by the application: email holds an AES-256-GCM envelope,
-- email_index the HMAC-SHA-256 of the normalised address, which makes it unique and findable.

CREATE TABLE chat.users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    email_index bytea NOT NULL,
    username varchar(50) NOT NULL,
    password_hash varchar(255) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz,
    is_active boolean NOT NULL DEFAULT true,
    is_verified boolean NOT NULL DEFAULT false,
    CONSTRAINT users_email_index_key UNIQUE (email_index),
    CONSTRAINT users_username_key UNIQUE (username),
    CONSTRAINT users_email_is_no_address CHECK (email NOT LIKE '%@%' AND length(email) BETWEEN 1 AND 1024),
    CONSTRAINT users_email_index_is_hmac_sha256 CHECK (octet_length(email_index) = 32),
    CONSTRAINT users_username_is_not_empty CHECK (length(username) > 0),
    CONSTRAINT users_password_hash_is_argon2id CHECK (password_hash LIKE '$argon2id$%')
);

CREATE INDEX users_created_at_idx ON chat.users (created_at);

CREATE TRIGGER users_set_updated_at
    BEFORE UPDATE ON chat.users
    FOR EACH ROW EXECUTE FUNCTION chat.set_updated_at();
