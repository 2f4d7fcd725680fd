-- Whether a user is set, exists and is active: what the floors under the policies of app_api ask, for functions. It sees
-- with the rights of its caller: those of the function that calls it, or app_api's, which end at the user's own row.

CREATE OR REPLACE FUNCTION chat.context_is_active() RETURNS boolean
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM chat.users WHERE id = chat.current_user_id() AND is_active);
END
$$;
