-- Not validated: a block that lies on top of a rejection stays as it is.
ALTER TABLE chat.relationships
    DROP CONSTRAINT relationships_block_waits_for_no_answer,
    ADD CONSTRAINT relationships_block_needs_no_answer CHECK (type <> 'blocked' OR status = 'accepted') NOT VALID;
