DROP TABLE chat.settings;
