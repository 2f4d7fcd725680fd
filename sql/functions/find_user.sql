-- The id of the user of that name, or NULL when there is none that the current user can see.

CREATE OR REPLACE FUNCTION chat.find_user(name text) RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me CONSTANT uuid := chat.current_user_id();
BEGIN
    -- A name that is free is asked about like one that is taken: the work must not tell it from one whose user blocks.
    RETURN (
        SELECT CASE
            WHEN coalesce(named.is_active, false) > EXISTS (
                SELECT FROM chat.relationships
                WHERE user_id = coalesce(named.id, '00000000-0000-0000-0000-000000000000')
                    AND related_user_id = me AND type = 'blocked'
            ) THEN named.id
        END
        FROM (SELECT) AS always LEFT JOIN chat.users AS named ON named.username = name
        WHERE EXISTS (SELECT FROM chat.users WHERE id = me AND is_active)
    );
END
$$;
