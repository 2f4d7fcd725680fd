-- Ask `addressee` for friendship. `request_id` is the new row's id, a UUIDv7 of the application.
-- no_data_found (P0002): no user that the current one can see. unique_violation (23505): the two are related already.

CREATE OR REPLACE FUNCTION chat.request_friendship(request_id uuid, addressee uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT uuid := chat.current_user_id();
BEGIN
    PERFORM chat.lock_pair(me, addressee);
    IF addressee = me OR chat.can_see(addressee) IS NOT TRUE THEN
        RAISE no_data_found USING MESSAGE = 'no such user';
    END IF;
    INSERT INTO chat.relationships (id, user_id, related_user_id, type, status)
    VALUES (request_id, me, addressee, 'friend', 'pending');
END
$$;
