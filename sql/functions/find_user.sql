-- The id of the user of that name, or NULL when there is none that the current user can see.

CREATE OR REPLACE FUNCTION chat.find_user(name text) RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found uuid := (SELECT id FROM chat.users WHERE username = name);
BEGIN
    -- Asked of nobody too: the work must not tell a name that is free from one whose user blocks.
    IF chat.can_see(coalesce(found, '00000000-0000-0000-0000-000000000000')) THEN
        RETURN found;
    END IF;
    RETURN NULL;
END
$$;
