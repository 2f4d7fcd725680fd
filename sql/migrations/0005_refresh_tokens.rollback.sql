DROP TABLE chat.refresh_tokens;
