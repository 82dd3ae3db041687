-- The most frequent resets, by workload. The same text runs in ClickHouse and in DuckDB.
SELECT workload, path, count(*) AS endings
FROM closetrace_endings WHERE rst OR path = 'recv.rst'
GROUP BY workload, path ORDER BY endings DESC, workload, path LIMIT 20
