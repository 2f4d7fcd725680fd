-- How many users registered on each day (UTC).

CREATE VIEW report.registrations_per_day AS
SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS users
FROM chat.users
GROUP BY 1;
