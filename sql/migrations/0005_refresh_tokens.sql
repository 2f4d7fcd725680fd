-- Refresh tokens: token is the hex SHA-256 of the secret that the client holds. Tokens that replaced each other
-- share a family, so that the reuse of a spent one revokes them all.

CREATE TABLE chat.refresh_tokens (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES chat.users (id) ON DELETE CASCADE,
    family_id uuid NOT NULL,
    token varchar(255) NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked boolean NOT NULL DEFAULT false,
    revoked_at timestamptz,
    CONSTRAINT refresh_tokens_token_key UNIQUE (token),
    CONSTRAINT refresh_tokens_token_is_sha256 CHECK (token ~ '^[0-9a-f]{64}$'),
    CONSTRAINT refresh_tokens_expire_after_creation CHECK (expires_at > created_at),
    CONSTRAINT refresh_tokens_revoked_has_a_time CHECK (revoked = (revoked_at IS NOT NULL))
);

CREATE INDEX refresh_tokens_user_id_idx ON chat.refresh_tokens (user_id);
CREATE INDEX refresh_tokens_family_id_idx ON chat.refresh_tokens (family_id);
CREATE INDEX refresh_tokens_expires_at_idx ON chat.refresh_tokens (expires_at);
