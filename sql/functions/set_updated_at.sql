-- Trigger of every table that has updated_at: the database keeps it, whoever writes.

CREATE OR REPLACE FUNCTION chat.set_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;
