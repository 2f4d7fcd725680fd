-- Only chat.current_user_id(), which runs as chat_definer, reads the keys; no other role has a grant or a policy.

ALTER TABLE chat.context_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY definer_reads ON chat.context_keys AS PERMISSIVE FOR SELECT TO chat_definer USING (true);
