-- A block may lie on top of a rejected request: ending it must bring the rejection back, so that who was rejected cannot
-- ask again. Validated by the next migration, which lets others read and write meanwhile.

ALTER TABLE chat.relationships
    -- Rows that the old constraint allows the new one allows too.
    -- squawk-ignore ban-drop-constraint
    DROP CONSTRAINT relationships_block_needs_no_answer,
    ADD CONSTRAINT relationships_block_waits_for_no_answer CHECK (type <> 'blocked' OR status <> 'pending') NOT VALID;
