-- Only app_auth touches refresh tokens; no other role has a grant or a policy.

ALTER TABLE chat.refresh_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

CREATE POLICY auth_finds ON chat.refresh_tokens AS PERMISSIVE FOR SELECT TO app_auth USING (true);
CREATE POLICY auth_issues ON chat.refresh_tokens AS PERMISSIVE FOR INSERT TO app_auth WITH CHECK (NOT revoked);
-- A revoked token never comes back to life.
CREATE POLICY auth_revokes ON chat.refresh_tokens AS PERMISSIVE FOR UPDATE TO app_auth USING (NOT revoked) WITH CHECK (revoked);
CREATE POLICY auth_removes_expired ON chat.refresh_tokens AS PERMISSIVE FOR DELETE TO app_auth USING (expires_at < now());
