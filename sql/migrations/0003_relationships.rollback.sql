DROP TABLE chat.relationships;
