-- user_id asked for friendship with, or blocks, related_user_id. A friendship is one row for the pair,
-- whoever asked; a block is a row of its own in each direction.

CREATE TABLE chat.relationships (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES chat.users (id) ON DELETE CASCADE,
    related_user_id uuid NOT NULL REFERENCES chat.users (id) ON DELETE CASCADE,
    type varchar(20) NOT NULL,
    status varchar(20) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT relationships_user_id_related_user_id_key UNIQUE (user_id, related_user_id),
    CONSTRAINT relationships_are_between_two CHECK (user_id <> related_user_id),
    CONSTRAINT relationships_type_is_known CHECK (type IN ('friend', 'blocked')),
    CONSTRAINT relationships_status_is_known CHECK (status IN ('pending', 'accepted', 'rejected')),
    CONSTRAINT relationships_block_needs_no_answer CHECK (type <> 'blocked' OR status = 'accepted')
);

CREATE UNIQUE INDEX relationships_one_friendship_per_pair ON chat.relationships
    (least(user_id, related_user_id), greatest(user_id, related_user_id)) WHERE type = 'friend';

-- Requests that wait for a user's answer, blocks against a user, and the foreign key.
CREATE INDEX relationships_related_user_id_idx ON chat.relationships (related_user_id, type, status);

CREATE TRIGGER relationships_set_updated_at
    BEFORE UPDATE ON chat.relationships
    FOR EACH ROW EXECUTE FUNCTION chat.set_updated_at();
