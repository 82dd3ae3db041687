-- The most frequent resets, by workload. The rate limit of closetrace joins equal ones: collapsed counts these. This
-- text runs in ClickHouse and in DuckDB alike.
SELECT workload, path, count(*) + sum(collapsed) AS endings
FROM closetrace_endings WHERE rst OR path = 'recv.rst'
GROUP BY workload, path ORDER BY endings DESC, workload, path LIMIT 20
