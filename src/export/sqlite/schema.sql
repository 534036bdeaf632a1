-- Tables and views of profiler.db: names and columns are msServiceProfiler's, so that dashboards made for it find theirs.
-- Times of trace tables are unix nanoseconds; of others as their names say, `during_time` and the like in milliseconds.
-- Texts of time are `YYYY-MM-DD HH:MM:SS:ffffff` in tables and `YYYY-MM-DD HH:MM:SS.ffffff` in views.

CREATE TABLE data_table (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, view_name TEXT);
CREATE TABLE translate (key TEXT PRIMARY KEY, value_en TEXT, value_zh TEXT);

CREATE TABLE process (pid TEXT PRIMARY KEY, process_name TEXT, label TEXT, process_sort_index INTEGER, parentPid TEXT);
CREATE TABLE thread (track_id INTEGER PRIMARY KEY, tid TEXT, pid TEXT, thread_name TEXT, thread_sort_index INTEGER);
CREATE TABLE slice (id INTEGER PRIMARY KEY, timestamp INTEGER, duration INTEGER, name TEXT, depth INTEGER,
    track_id INTEGER, cat TEXT, args TEXT, cname TEXT, end_time INTEGER, flag_id TEXT);
CREATE TABLE counter (id INTEGER PRIMARY KEY, name TEXT, pid TEXT, timestamp INTEGER, cat TEXT, args TEXT);
CREATE TABLE flow (id INTEGER PRIMARY KEY, flow_id TEXT, name TEXT, cat TEXT, track_id INTEGER, timestamp INTEGER,
    type TEXT);

CREATE TABLE request (http_rid TEXT, start_datetime TEXT, recv_token_size REAL, reply_token_size REAL,
    execution_time REAL, queue_wait_time REAL, first_token_latency REAL, cache_hit_rate TEXT, "start_time(ms)" REAL);
CREATE VIEW request_data AS SELECT http_rid, replace_last_colon AS start_datetime, recv_token_size, reply_token_size,
    execution_time AS "execution_time(ms)", queue_wait_time AS "queue_wait_time(ms)",
    first_token_latency AS "first_token_latency(ms)", cache_hit_rate, "start_time(ms)"
    FROM (SELECT *, substr(start_datetime, 1, 19) || '.' || substr(start_datetime, 21) AS replace_last_colon FROM request);

CREATE TABLE batch (name TEXT, res_list TEXT, start_datetime TEXT, end_datetime TEXT, during_time REAL, batch_type TEXT,
    prof_id TEXT, batch_size REAL, total_blocks INTEGER, used_blocks INTEGER, free_blocks INTEGER,
    blocks_allocated INTEGER, blocks_freed INTEGER, kvcache_usage_rate REAL, prefill_batch_size INTEGER,
    decode_batch_size INTEGER, prefill_scheduled_tokens INTEGER, decode_scheduled_tokens INTEGER,
    total_scheduled_tokens INTEGER, dp_rank INTEGER, accepted_ratio REAL, accepted_ratio_per_pos TEXT,
    "start_time(ms)" REAL, "end_time(ms)" REAL);
CREATE VIEW batch_info AS SELECT name, res_list, substr(start_datetime, 1, 19) || '.' || substr(start_datetime, 21)
    AS start_datetime, substr(end_datetime, 1, 19) || '.' || substr(end_datetime, 21) AS end_datetime,
    during_time AS "during_time(ms)", batch_type, prof_id, batch_size, total_blocks, used_blocks, free_blocks,
    blocks_allocated, blocks_freed, kvcache_usage_rate, prefill_batch_size, decode_batch_size,
    prefill_scheduled_tokens, decode_scheduled_tokens, total_scheduled_tokens, dp_rank, accepted_ratio,
    accepted_ratio_per_pos, "start_time(ms)", "end_time(ms)" FROM batch;
CREATE VIEW schedules AS SELECT row_number() OVER (ORDER BY start_datetime, rowid) - 1 AS batch_id, * FROM batch
    WHERE name IN ('BatchSchedule', 'batchFrameworkProcessing', 'Schedule');
CREATE VIEW Batch_Size_curve AS SELECT batch_id, batch_size AS total_batch_size, prefill_batch_size, decode_batch_size
    FROM schedules;
CREATE VIEW Batch_Token_curve AS SELECT batch_id, total_scheduled_tokens, prefill_scheduled_tokens,
    decode_scheduled_tokens FROM schedules;
CREATE TABLE batch_exec (batch_id INTEGER, event TEXT, pid INTEGER, start REAL, "end" REAL);
CREATE TABLE batch_req (batch_id INTEGER, req_id TEXT, rid TEXT, iter INTEGER, block TEXT);

CREATE TABLE kvcache (rid TEXT, name TEXT, start_datetime TEXT, real_start_time TEXT AS (start_datetime),
    total_blocks INTEGER, used_blocks INTEGER, free_blocks INTEGER, blocks_allocated INTEGER, blocks_freed INTEGER,
    device_kvcache_left INTEGER, kvcache_usage_rate REAL);
CREATE VIEW kvcache_usage AS SELECT rid, name, substr(start_datetime, 1, 19) || '.' || substr(start_datetime, 21)
    AS start_time, total_blocks, used_blocks, free_blocks, blocks_allocated, blocks_freed, device_kvcache_left,
    kvcache_usage_rate FROM kvcache;
CREATE VIEW Kvcache_Usage_Percent_curve AS SELECT substr(start_datetime, 1, 19) || '.' || substr(start_datetime, 21)
    AS datetime, kvcache_usage_rate * 100 AS kvcache_usage_percent FROM kvcache WHERE kvcache_usage_rate IS NOT NULL;

CREATE TABLE forward (name TEXT, relative_start_time REAL, start_datetime TEXT, end_datetime TEXT, during_time REAL,
    bubble_time REAL, batch_size INTEGER, batch_type TEXT, forward_iter INTEGER, dp_rank INTEGER, prof_id TEXT,
    hostname TEXT, start_time REAL, end_time REAL);
CREATE VIEW forward_info AS SELECT name, relative_start_time AS "relative_start_time(ms)",
    substr(start_datetime, 1, 19) || '.' || substr(start_datetime, 21) AS start_datetime,
    substr(end_datetime, 1, 19) || '.' || substr(end_datetime, 21) AS end_datetime, during_time AS "during_time(ms)",
    bubble_time AS "bubble_time(ms)", batch_size, batch_type, forward_iter, dp_rank, prof_id, hostname,
    start_time AS "start_time(ms)", end_time AS "end_time(ms)" FROM forward;

CREATE TABLE request_status (timestamp TEXT, hostuid TEXT, pid INTEGER, WAITING INTEGER, PENDING INTEGER,
    RUNNING INTEGER, SWAPPED INTEGER);
CREATE VIEW Request_Status_curve AS SELECT substr(timestamp, 1, 19) || '.' || substr(timestamp, 21) AS time,
    WAITING AS waiting, SWAPPED AS swapped, RUNNING AS running FROM request_status;

CREATE TABLE prefill_gen_speed (timestamp TEXT, p50 REAL, p90 REAL, p99 REAL, avg REAL, p50_alltime REAL);
CREATE TABLE decode_gen_speed (timestamp TEXT, p50 REAL, p90 REAL, p99 REAL, avg REAL, p50_alltime REAL);
CREATE VIEW Prefill_Generate_Speed_Latency_curve AS SELECT
    substr(timestamp, 1, 19) || '.' || substr(timestamp, 21) AS time, round(avg, 4) AS "avg(tokens/s)",
    round(p99, 4) AS "p99(tokens/s)", round(p90, 4) AS "p90(tokens/s)", round(p50, 4) AS "p50(tokens/s)"
    FROM prefill_gen_speed;
CREATE VIEW Decode_Generate_Speed_Latency_curve AS SELECT
    substr(timestamp, 1, 19) || '.' || substr(timestamp, 21) AS time, round(avg, 4) AS "avg(tokens/s)",
    round(p99, 4) AS "p99(tokens/s)", round(p90, 4) AS "p90(tokens/s)", round(p50, 4) AS "p50(tokens/s)"
    FROM decode_gen_speed;

-- Microseconds.
CREATE TABLE first_token_latency (timestamp TEXT, p50 REAL, p90 REAL, p99 REAL, avg REAL, min_value REAL,
    p50_alltime REAL);
CREATE VIEW First_Token_Latency_curve AS SELECT substr(timestamp, 1, 19) || '.' || substr(timestamp, 21) AS time,
    round(p99 / 1000, 4) AS "p99(ms)", round(p90 / 1000, 4) AS "p90(ms)", round(p50 / 1000, 4) AS "p50(ms)",
    round(min_value / 1000, 4) AS "min(ms)" FROM first_token_latency;
CREATE TABLE req_latency (timestamp TEXT, avg REAL, p99 REAL, p90 REAL, p50 REAL, p50_alltime REAL);
CREATE VIEW Request_Latency_curve AS SELECT substr(timestamp, 1, 19) || '.' || substr(timestamp, 21) AS time,
    round(avg / 1000, 4) AS "avg(ms)", round(p99 / 1000, 4) AS "p99(ms)", round(p90 / 1000, 4) AS "p90(ms)",
    round(p50 / 1000, 4) AS "p50(ms)" FROM req_latency;

CREATE TABLE pd_split_communication (rid TEXT, http_req_time TEXT, send_request_time TEXT, send_request_succ_time TEXT,
    prefill_res_time TEXT, request_end_time TEXT);
CREATE VIEW pd_communication_info AS SELECT rid, http_req_time AS "http_req_time(ms)",
    send_request_time AS "send_request_time(ms)", send_request_succ_time AS "send_request_succ_time(ms)",
    prefill_res_time AS "prefill_res_time(ms)", request_end_time AS "request_end_time(ms)" FROM pd_split_communication;
CREATE TABLE pd_split_kvcache (domain TEXT, rank TEXT, rid TEXT, block_tables TEXT, batch_seq_len TEXT, during_time REAL,
    start_time TEXT, end_time TEXT);
CREATE VIEW pd_split_pull_kvcache AS SELECT domain, rank, rid, block_tables, batch_seq_len,
    during_time AS "during_time(ms)", start_time, end_time FROM pd_split_kvcache;
CREATE TABLE coordinator (time TEXT, address TEXT, node_type TEXT, add_count INTEGER, end_count INTEGER,
    running_count INTEGER);

CREATE TABLE data_link (source_name TEXT, target_table TEXT, target_name TEXT);
INSERT INTO data_link VALUES ('rid', 'request', 'http_rid');
INSERT INTO data_table (name, view_name) VALUES ('request', 'request_data'), ('batch', 'batch_info'),
    ('kvcache', 'kvcache_usage'), ('forward', 'forward_info'), ('pd_split_communication', 'pd_communication_info'),
    ('pd_split_kvcache', 'pd_split_pull_kvcache');
INSERT INTO translate VALUES
    ('request_data', 'Requests', '请求'),
    ('batch_info', 'Batches', '批次'),
    ('kvcache_usage', 'KV cache', 'KV 缓存'),
    ('forward_info', 'Forward passes', '前向计算'),
    ('pd_communication_info', 'Prefill and decode: communication', 'PD 分离通信'),
    ('pd_split_pull_kvcache', 'Prefill and decode: KV blocks pulled', 'PD 分离拉取 KV'),
    ('Batch_Size_curve', 'Batch size', '批次大小'),
    ('Batch_Token_curve', 'Tokens of a batch', '批次 token 数'),
    ('Kvcache_Usage_Percent_curve', 'KV cache in use (%)', 'KV 缓存使用率 (%)'),
    ('Request_Status_curve', 'Requests by state', '请求状态'),
    ('First_Token_Latency_curve', 'Time to first token', '首 token 时延'),
    ('Request_Latency_curve', 'Latency of requests', '请求时延'),
    ('Prefill_Generate_Speed_Latency_curve', 'Prefill speed', 'Prefill 速度'),
    ('Decode_Generate_Speed_Latency_curve', 'Decode speed', 'Decode 速度'),
    ('Coordinator_curve', 'Requests given to each address', '各地址分发的请求');
