-- End a friendship, a request or a block of the current user with `other`. A rejected request stays, so that it cannot be
-- repeated, until the one who rejected it ends it; a block that lies on top of one gives it back.
-- no_data_found (P0002): there is nothing to end.

CREATE OR REPLACE FUNCTION chat.end_relationship(other uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT uuid := (SELECT id FROM chat.users WHERE id = chat.current_user_id() AND is_active);
BEGIN
    PERFORM chat.lock_pair(me, other);
    UPDATE chat.relationships SET type = 'friend'
    WHERE user_id = me AND related_user_id = other AND type = 'blocked' AND status = 'rejected';
    IF FOUND THEN
        RETURN;
    END IF;
    DELETE FROM chat.relationships
    WHERE (user_id = me AND related_user_id = other AND status <> 'rejected')
        OR (user_id = other AND related_user_id = me AND type = 'friend');
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = 'no such relationship';
    END IF;
END
$$;
