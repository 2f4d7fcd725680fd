-- Whether the current user may know of `other`: active, and not blocking the current user. An unknown, a deactivated
-- and a blocking user give the same answer after the same work, so that a block is never revealed. It asks about one user
-- at a time, because app_api may call whatever a policy calls, and a list of those who block it would tell.

CREATE OR REPLACE FUNCTION chat.can_see(other uuid) RETURNS boolean
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT uuid := chat.current_user_id();
BEGIN
    -- Known and not blocking; unlike AND, > always asks both.
    RETURN EXISTS (SELECT FROM chat.users WHERE id = me AND is_active)
        AND EXISTS (SELECT FROM chat.users WHERE id = other AND is_active)
            > EXISTS (SELECT FROM chat.relationships WHERE user_id = other AND related_user_id = me AND type = 'blocked');
END
$$;
