-- transactional: false
-- Whether one user blocks another, in one entry. With a choice of two indexes that look alike, the planner may take the
-- one by related_user_id, and then the time of an answer tells how many users block the one who asks.

CREATE UNIQUE INDEX CONCURRENTLY relationships_blocks_idx ON chat.relationships (related_user_id, user_id) WHERE type = 'blocked';
