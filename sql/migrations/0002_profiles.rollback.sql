DROP TABLE chat.profiles;
