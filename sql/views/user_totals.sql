-- How many users there are, by state.

CREATE VIEW report.user_totals AS
SELECT is_active, is_verified, count(*) AS users
FROM chat.users
GROUP BY is_active, is_verified;
