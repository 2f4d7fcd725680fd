DROP TABLE chat.users;
