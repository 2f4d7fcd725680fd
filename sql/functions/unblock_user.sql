-- End the current user's block of `target`. A request that `target` rejected before the block is rejected again, so
-- that a block in between does not let it be repeated. no_data_found (P0002): there is no such block.

CREATE OR REPLACE FUNCTION chat.unblock_user(target uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = ''
AS $$
BEGIN
    UPDATE chat.relationships SET type = 'friend'
    WHERE chat.context_is_active()
        AND user_id = chat.current_user_id() AND related_user_id = target AND type = 'blocked' AND status = 'rejected';
    IF FOUND THEN
        RETURN;
    END IF;
    DELETE FROM chat.relationships
    WHERE chat.context_is_active()
        AND user_id = chat.current_user_id() AND related_user_id = target AND type = 'blocked';
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = 'no such block';
    END IF;
END
$$;
