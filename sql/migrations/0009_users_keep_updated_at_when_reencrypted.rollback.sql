DROP TRIGGER users_set_updated_at ON chat.users;

CREATE TRIGGER users_set_updated_at
    BEFORE UPDATE ON chat.users
    FOR EACH ROW EXECUTE FUNCTION chat.set_updated_at();
