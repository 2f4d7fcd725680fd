-- Deactivate the current user, who from then on sees nothing and is seen by nobody; only an administrator can undo it.
-- no_data_found (P0002): no active user is set.

CREATE OR REPLACE FUNCTION chat.deactivate_oneself() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE chat.users SET is_active = false WHERE id = chat.current_user_id() AND is_active;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = 'no such user';
    END IF;
END
$$;
