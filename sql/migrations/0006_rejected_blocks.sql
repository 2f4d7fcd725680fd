-- Whoever blocks a user that rejected its request keeps the rejection: the row of the two is a block with status
-- 'rejected', and a rejected request again when the block ends. Every row there is satisfies the wider constraint.

ALTER TABLE chat.relationships
    DROP CONSTRAINT relationships_block_needs_no_answer,
    ADD CONSTRAINT relationships_block_waits_for_no_answer CHECK (type <> 'blocked' OR status <> 'pending') NOT VALID;

ALTER TABLE chat.relationships VALIDATE CONSTRAINT relationships_block_waits_for_no_answer;
