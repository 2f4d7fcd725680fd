DROP TABLE chat.context_keys;
