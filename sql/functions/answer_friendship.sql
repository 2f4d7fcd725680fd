-- Accept or reject the request of `requester` that waits for the current user.
-- no_data_found (P0002): there is none.

CREATE OR REPLACE FUNCTION chat.answer_friendship(requester uuid, accept boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT uuid := (SELECT id FROM chat.users WHERE id = chat.current_user_id() AND is_active);
BEGIN
    UPDATE chat.relationships
    SET status = CASE WHEN accept THEN 'accepted' ELSE 'rejected' END
    WHERE user_id = requester AND related_user_id = me AND type = 'friend' AND status = 'pending';
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = 'no such request';
    END IF;
END
$$;
