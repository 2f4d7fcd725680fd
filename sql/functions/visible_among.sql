-- Those of `others` that the current user may know of: what can_see says of each, in one go.

CREATE OR REPLACE FUNCTION chat.visible_among(others uuid[]) RETURNS SETOF uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT uuid := chat.current_user_id();
BEGIN
    -- Who blocks is looked up before anybody is found, and for all of `others`, so that the work does not tell one from
    -- nobody. Each OFFSET 0 keeps the planner from changing that order.
    RETURN QUERY
    SELECT known.id
    FROM (
        SELECT ARRAY(
            SELECT user_id FROM chat.relationships
            WHERE user_id = ANY (others) AND related_user_id = me AND type = 'blocked'
        ) AS ids
        FROM chat.users WHERE id = me AND is_active
        OFFSET 0
    ) AS blocking, LATERAL (
        SELECT id FROM chat.users WHERE id = ANY (others) AND is_active AND id <> ALL (blocking.ids)
        OFFSET 0
    ) AS known;
END
$$;
