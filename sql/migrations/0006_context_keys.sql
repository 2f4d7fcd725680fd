-- Keys that a signed context is verified with, as the inner and outer pads of HMAC-SHA-256 (RFC 2104): with them the
-- server's own sha256() is enough. Two keys are valid while one is being replaced. Written by dbkeep from the vault.

CREATE TABLE chat.context_keys (
    id bigint PRIMARY KEY,
    inner_pad bytea NOT NULL,
    outer_pad bytea NOT NULL,
    CONSTRAINT context_keys_id_is_positive CHECK (id > 0),
    CONSTRAINT context_keys_pads_are_blocks CHECK (octet_length(inner_pad) = 64 AND octet_length(outer_pad) = 64)
);
