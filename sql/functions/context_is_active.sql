-- The floor under every policy of app_api: a user is set, exists and is active.

CREATE OR REPLACE FUNCTION chat.context_is_active() RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM chat.users WHERE id = chat.current_user_id() AND is_active);
END
$$;
