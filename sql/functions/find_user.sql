-- The id of the user of that name, or NULL when there is none that the current user can see.

CREATE OR REPLACE FUNCTION chat.find_user(name text) RETURNS uuid
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = ''
AS $$
    SELECT id FROM chat.users WHERE username = name AND chat.can_see(id);
$$;
