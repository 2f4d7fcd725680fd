-- Refused by the constraint while a block lies on top of a rejection: without it the rejection would be forgotten.
ALTER TABLE chat.relationships
    DROP CONSTRAINT relationships_block_waits_for_no_answer,
    ADD CONSTRAINT relationships_block_needs_no_answer CHECK (type <> 'blocked' OR status = 'accepted');
