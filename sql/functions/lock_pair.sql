-- Let nobody else change the relationships between two users until the transaction ends: a request must not slip in
-- while it is being blocked. Called by the functions that write them, with rights that app_api does not have.

CREATE OR REPLACE FUNCTION chat.lock_pair(one uuid, other uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(least(one, other)::text || greatest(one, other)::text, 0));
END
$$;
