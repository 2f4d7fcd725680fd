-- app_keys writes what a row already says, encrypted with another key: no reader of updated_at has to look again.

DROP TRIGGER users_set_updated_at ON chat.users;

CREATE TRIGGER users_set_updated_at
    BEFORE UPDATE ON chat.users
    FOR EACH ROW WHEN (current_user <> 'app_keys') EXECUTE FUNCTION chat.set_updated_at();
