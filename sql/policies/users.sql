-- A user sees its own row and can only deactivate itself, by deactivate_oneself(); app_auth registers users and logs them in.

ALTER TABLE chat.users ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY floor ON chat.users AS RESTRICTIVE FOR ALL TO app_api
    USING (is_active) -- the floors of the other tables stand on it: who is not active does not even see itself
    WITH CHECK (is_active);

CREATE POLICY own_row ON chat.users AS PERMISSIVE FOR SELECT TO app_api
    USING (id = (SELECT chat.current_user_id()));

CREATE POLICY auth_finds ON chat.users AS PERMISSIVE FOR SELECT TO app_auth USING (true);
CREATE POLICY auth_registers ON chat.users AS PERMISSIVE FOR INSERT TO app_auth WITH CHECK (true);
CREATE POLICY auth_logs_in ON chat.users AS PERMISSIVE FOR UPDATE TO app_auth USING (true) WITH CHECK (true);

CREATE POLICY keys_finds ON chat.users AS PERMISSIVE FOR SELECT TO app_keys USING (true);
CREATE POLICY keys_reencrypts ON chat.users AS PERMISSIVE FOR UPDATE TO app_keys USING (true) WITH CHECK (true);

CREATE POLICY definer_reads ON chat.users AS PERMISSIVE FOR SELECT TO chat_definer USING (true);
CREATE POLICY definer_deactivates ON chat.users AS PERMISSIVE FOR UPDATE TO chat_definer
    USING (is_active) WITH CHECK (NOT is_active);
