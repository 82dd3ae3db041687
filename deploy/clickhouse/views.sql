-- For ClickHouse, on the table otel_logs that the clickhouse exporter of the OpenTelemetry Collector makes: typed columns,
-- ordered by connection, kept for 14 days.
CREATE TABLE closetrace_endings (
  time DateTime64(9), host LowCardinality(String), connection_id String, path LowCardinality(String),
  state_before LowCardinality(String), fin Bool, rst Bool, workload LowCardinality(String), cause String,
  collapsed UInt64 -- how many other endings the row stands for
) ENGINE = MergeTree ORDER BY (connection_id, time) TTL toDateTime(time) + INTERVAL 14 DAY;

CREATE MATERIALIZED VIEW closetrace_endings_of_logs TO closetrace_endings AS
SELECT Timestamp AS time, ResourceAttributes['host.name'] AS host,
  LogAttributes['closetrace.connection_id'] AS connection_id, LogAttributes['closetrace.path'] AS path,
  LogAttributes['closetrace.state.before'] AS state_before, LogAttributes['closetrace.fin'] = 'true' AS fin,
  LogAttributes['closetrace.rst'] = 'true' AS rst, LogAttributes['closetrace.workload'] AS workload, Body AS cause,
  toUInt64OrZero(LogAttributes['closetrace.collapsed']) AS collapsed
FROM otel_logs WHERE EventName = 'closetrace.tcp.ending';
