-- What came in, as it came in, each exchange in its own words. Append-only, repeats allowed.
-- Raw rows are evidence, not truth: they go when they have been here for 180 days, a part at a
-- time, and the candles made of them stay.

CREATE TABLE IF NOT EXISTS raw_binance_klines_1m
(
    market_id UInt16,
    symbol LowCardinality(String),
    instrument_key String,
    open_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    open Float64,
    high Float64,
    low Float64,
    close Float64,
    volume Float64,
    close_time DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    quote_asset_volume Float64,
    number_of_trades UInt32,
    taker_buy_base_asset_volume Float64,
    taker_buy_quote_asset_volume Float64,
    source LowCardinality(String) DEFAULT 'unknown',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    ingest_id Nullable(UUID)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(open_time)
ORDER BY (market_id, symbol, open_time)
TTL toDateTime(ingested_at) + INTERVAL 180 DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS raw_bybit_klines_1m
(
    market_id UInt16,
    symbol LowCardinality(String),
    instrument_key String,
    interval_min UInt16,
    start_time_ms UInt64 CODEC(Delta, LZ4),
    start_time_utc DateTime64(3, 'UTC') CODEC(Delta, LZ4),
    open Float64,
    high Float64,
    low Float64,
    close Float64,
    volume Float64,
    turnover Float64,
    source LowCardinality(String) DEFAULT 'unknown',
    ingested_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, LZ4),
    ingest_id Nullable(UUID)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(start_time_utc)
ORDER BY (market_id, symbol, start_time_utc)
TTL toDateTime(ingested_at) + INTERVAL 180 DAY
SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1;
