-- Whether the current user may know of `other`: active, and not blocking the current user. An unknown, a deactivated
-- and a blocking user give the same answer, so that a block is never revealed. It asks about one user at a time,
-- because app_api may call whatever a policy calls, and a list of those who block it would tell.

CREATE OR REPLACE FUNCTION chat.can_see(other uuid) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = ''
AS $$
    SELECT chat.context_is_active()
        AND EXISTS (SELECT FROM chat.users WHERE id = other AND is_active)
        AND NOT EXISTS (
            SELECT FROM chat.relationships
            WHERE user_id = other AND related_user_id = chat.current_user_id() AND type = 'blocked'
        );
$$;
