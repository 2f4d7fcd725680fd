-- Block `target` for the current user: a friendship or request between the two ends, but a rejection stays under the
-- block. The row gets the new id `block_id`: the id of a request is known to `target`, and a row that keeps it would tell
-- why the request is gone. no_data_found (P0002): no user that the current one can see.

CREATE OR REPLACE FUNCTION chat.block_user(block_id uuid, target uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT uuid := chat.current_user_id();
BEGIN
    PERFORM chat.lock_pair(me, target);
    IF target = me OR chat.can_see(target) IS NOT TRUE THEN
        RAISE no_data_found USING MESSAGE = 'no such user';
    END IF;
    DELETE FROM chat.relationships WHERE user_id = target AND related_user_id = me AND type = 'friend';
    INSERT INTO chat.relationships AS mine (id, user_id, related_user_id, type, status)
    VALUES (block_id, me, target, 'blocked', 'accepted')
    ON CONFLICT (user_id, related_user_id) DO UPDATE
    SET id = excluded.id, type = 'blocked', created_at = excluded.created_at,
        status = CASE mine.status WHEN 'rejected' THEN 'rejected' ELSE 'accepted' END;
END
$$;
