-- Both ends of each connection. The end that closed first sent a FIN or a RST in ESTABLISHED. The same text runs in
-- ClickHouse, on views.sql, and in DuckDB, on a table of that form.
SELECT a.connection_id, a.host AS first, a.path, a.cause, b.host AS other, b.path AS other_path, b.cause AS other_cause
FROM closetrace_endings AS a JOIN closetrace_endings AS b ON a.connection_id = b.connection_id
WHERE a.host <> b.host AND a.connection_id <> '' AND a.state_before = 'ESTABLISHED' AND (a.fin OR a.rst)
  AND (b.path IN ('recv.rst', 'recv.fin') OR b.state_before = 'CLOSE_WAIT')
ORDER BY a.time
