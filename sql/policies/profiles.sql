-- A user sees its own profile and those of active users who do not block it, and changes its own.

ALTER TABLE chat.profiles ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Of chat.users only the current user's own row is to be seen: there is one, and it is active. Asked once a statement.
CREATE POLICY floor ON chat.profiles AS RESTRICTIVE FOR ALL TO app_api
    USING (EXISTS (SELECT FROM chat.users WHERE is_active))
    WITH CHECK (EXISTS (SELECT FROM chat.users WHERE is_active));

CREATE POLICY own_or_visible ON chat.profiles AS PERMISSIVE FOR SELECT TO app_api
    USING (user_id = (SELECT chat.current_user_id()) OR chat.can_see(user_id));

CREATE POLICY change_own ON chat.profiles AS PERMISSIVE FOR UPDATE TO app_api
    USING (user_id = (SELECT chat.current_user_id()))
    WITH CHECK (user_id = (SELECT chat.current_user_id()));

CREATE POLICY auth_registers ON chat.profiles AS PERMISSIVE FOR INSERT TO app_auth WITH CHECK (true);
