-- How many relationships there are, by type and status.

CREATE VIEW report.relationship_totals AS
SELECT type, status, count(*) AS relationships
FROM chat.relationships
GROUP BY type, status;
