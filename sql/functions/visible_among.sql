-- Those of `others` that the current user may know of: what can_see says of each, in one go.

CREATE OR REPLACE FUNCTION chat.visible_among(others uuid[]) RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT uuid := chat.current_user_id();
BEGIN
    -- Known and not blocking; unlike AND, > always asks both, so that the work is the same for every one. OFFSET 0 makes
    -- the planner ask about each: a search for all who block would take the time of all who block.
    RETURN QUERY
    SELECT other FROM unnest(others) AS other
    WHERE EXISTS (SELECT FROM chat.users WHERE id = me AND is_active)
        AND (other = ANY (ARRAY(SELECT id FROM chat.users WHERE id = ANY (others) AND is_active)))
            > EXISTS (
                SELECT FROM chat.relationships WHERE user_id = other AND related_user_id = me AND type = 'blocked'
                OFFSET 0
            );
END
$$;
