-- Block `target` for the current user: a friendship or request between the two ends. `block_id` is the id of the
-- row when a new one is needed. no_data_found (P0002): no user that the current one can see.

CREATE OR REPLACE FUNCTION chat.block_user(block_id uuid, target uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = ''
AS $$
BEGIN
    IF target = chat.current_user_id() OR chat.can_see(target) IS NOT TRUE THEN
        RAISE no_data_found USING MESSAGE = 'no such user';
    END IF;
    DELETE FROM chat.relationships
    WHERE user_id = target AND related_user_id = chat.current_user_id() AND type = 'friend';
    INSERT INTO chat.relationships (id, user_id, related_user_id, type, status)
    VALUES (block_id, chat.current_user_id(), target, 'blocked', 'accepted')
    -- A rejected request stays rejected, so that blocking and unblocking does not let it be repeated.
    ON CONFLICT (user_id, related_user_id) DO UPDATE
    SET type = 'blocked', status = CASE relationships.status WHEN 'rejected' THEN 'rejected' ELSE 'accepted' END;
END
$$;
