ALTER TABLE chat.relationships
    DROP CONSTRAINT relationships_block_waits_for_no_answer,
    ADD CONSTRAINT relationships_block_waits_for_no_answer CHECK (type <> 'blocked' OR status <> 'pending') NOT VALID;
