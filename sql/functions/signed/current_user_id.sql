-- The user the API acts for: `user.backend_pid.expiry.key.signature`, the signature being the HMAC-SHA-256 (RFC 2104), in
-- hex, of what stands before it. Who can run SQL as app_api and does not have the key can act for nobody else.
-- insufficient_privilege (42501): the value is not signed with a key of chat.context_keys, is of another session (its
-- backend_pid) or has expired. It is verified here and nowhere else: a function that signs would sign for everybody.

CREATE OR REPLACE FUNCTION chat.current_user_id() RETURNS uuid
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    context CONSTANT text := current_setting('app.user_id', true);
    part CONSTANT text[] := string_to_array(context, '.');
    signature text;
BEGIN
    IF context IS NULL OR context = '' THEN
        RETURN NULL;
    END IF;
    SELECT encode(sha256(outer_pad || sha256(inner_pad || convert_to(array_to_string(part[1:4], '.'), 'UTF8'))), 'hex')
        INTO signature
        FROM chat.context_keys WHERE id::text = part[4] AND cardinality(part) = 5;
    -- Digests are compared, so that the time a comparison takes says nothing about the signature that would be right.
    IF signature IS NULL
        OR sha256(convert_to(signature, 'UTF8')) <> sha256(convert_to(part[5], 'UTF8')) THEN
        RAISE insufficient_privilege USING MESSAGE = 'app.user_id is not signed with a key of this database';
    ELSIF part[2] <> pg_backend_pid()::text THEN
        RAISE insufficient_privilege USING MESSAGE = 'app.user_id is signed for another session';
    ELSIF to_timestamp(part[3]::bigint) < clock_timestamp() THEN
        RAISE insufficient_privilege USING MESSAGE = 'app.user_id has expired',
            HINT = 'If it is new, the clocks of API and database differ.';
    END IF;
    RETURN part[1]::uuid;
END
$$;
