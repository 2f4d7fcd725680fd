-- A user sees what it asked for or blocked, and what others asked of it, but never who blocks it.
-- Rows are written by request_friendship, answer_friendship, block_user and end_relationship only.

ALTER TABLE chat.relationships ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Of chat.users only the current user's own row is to be seen: there is one, and it is active. Asked once a statement.
CREATE POLICY floor ON chat.relationships AS RESTRICTIVE FOR ALL TO app_api
    USING (EXISTS (SELECT FROM chat.users WHERE is_active))
    WITH CHECK (EXISTS (SELECT FROM chat.users WHERE is_active));

CREATE POLICY own_and_requests ON chat.relationships AS PERMISSIVE FOR SELECT TO app_api
    USING (
        user_id = (SELECT chat.current_user_id())
        OR (related_user_id = (SELECT chat.current_user_id()) AND type = 'friend')
    );

CREATE POLICY definer_reads ON chat.relationships AS PERMISSIVE FOR SELECT TO chat_definer USING (true);
CREATE POLICY definer_adds ON chat.relationships AS PERMISSIVE FOR INSERT TO chat_definer WITH CHECK (true);
CREATE POLICY definer_changes ON chat.relationships AS PERMISSIVE FOR UPDATE TO chat_definer USING (true) WITH CHECK (true);
CREATE POLICY definer_ends ON chat.relationships AS PERMISSIVE FOR DELETE TO chat_definer USING (true);
