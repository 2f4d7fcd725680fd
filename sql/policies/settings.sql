-- A user's settings are its own.

ALTER TABLE chat.settings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Of chat.users only the current user's own row is to be seen: there is one, and it is active. Asked once a statement.
CREATE POLICY floor ON chat.settings AS RESTRICTIVE FOR ALL TO app_api
    USING (EXISTS (SELECT FROM chat.users WHERE is_active))
    WITH CHECK (EXISTS (SELECT FROM chat.users WHERE is_active));

CREATE POLICY own ON chat.settings AS PERMISSIVE FOR SELECT TO app_api
    USING (user_id = (SELECT chat.current_user_id()));

CREATE POLICY add_own ON chat.settings AS PERMISSIVE FOR INSERT TO app_api
    WITH CHECK (user_id = (SELECT chat.current_user_id()));

CREATE POLICY change_own ON chat.settings AS PERMISSIVE FOR UPDATE TO app_api
    USING (user_id = (SELECT chat.current_user_id()))
    WITH CHECK (user_id = (SELECT chat.current_user_id()));

CREATE POLICY delete_own ON chat.settings AS PERMISSIVE FOR DELETE TO app_api
    USING (user_id = (SELECT chat.current_user_id()));
